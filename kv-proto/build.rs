//! Compiles the `.proto` files without `protoc`, and keeps their descriptors for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 4] = [
    "souk/kv/v1/kv.proto",
    "souk/admin/v1/admin.proto",
    "souk/store/v1/store.proto",
    "souk/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    // Another way to say `--cfg souk_mutants`, which leaves all other crates as they are built.
    println!("cargo::rerun-if-env-changed=SOUK_BUILD_MUTANTS");
    if env::var_os("SOUK_BUILD_MUTANTS").is_some() {
        println!("cargo::rustc-cfg=souk_mutants");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("souk_descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .bytes(".souk")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
