//! Both ends of handshakes, with certificates as `souk cert` makes them.

use std::{fs, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tokio_stream::StreamExt as _;

use crate::{
    Bearer, BearerKind, Expected, Folder, HandshakeError, Keyring, Reason, SecureIncoming,
    ServerWire, TlsError, accept,
    authority::{AUTHORITY_LASTS, Authority, CERTIFICATE_LASTS},
    dial,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority with node n1 and client shop.
fn cluster(id: &str) -> (TempDir, Folder, Authority) {
    let home = TempDir::new().expect("a directory");
    let folder = Folder::new(home.path().join("certs"));
    let authority = Authority::make(&folder, id, AUTHORITY_LASTS, false).expect("an authority");
    issue(&authority, BearerKind::Node, "n1");
    issue(&authority, BearerKind::Client, "shop");
    (home, folder, authority)
}

fn issue(authority: &Authority, kind: BearerKind, name: &str) -> Bearer {
    authority
        .issue(kind, name, &["127.0.0.1".to_owned()], CERTIFICATE_LASTS)
        .expect("a certificate")
}

fn keyring(folder: &Folder, kind: BearerKind, name: &str) -> Arc<Keyring> {
    Keyring::open(folder.of(kind, name)).expect("usable files")
}

async fn listen(keyring: Arc<Keyring>) -> (SecureIncoming, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (accept(listener, keyring), address)
}

/// Connects and hears one byte from the other end, or why not.
async fn call(
    keyring: &Keyring,
    address: &str,
    expected: &Expected,
) -> Result<crate::ClientWire, Reason> {
    let reason = |cause: std::io::Error| {
        let inner = cause.get_ref().and_then(|inner| inner.downcast_ref());
        inner.map_or(Reason::Other, |error: &HandshakeError| error.reason())
    };
    let mut wire = dial(keyring, address, expected).await.map_err(reason)?;
    let mut byte = [0];
    let heard = timeout(PATIENCE, wire.read_exact(&mut byte)).await;
    heard.expect("it says something in time").map_err(reason)?;
    Ok(wire)
}

/// Says one byte to the next caller who is let in.
async fn welcome(incoming: &mut SecureIncoming) -> ServerWire {
    let next = timeout(PATIENCE, incoming.next()).await.expect("in time");
    let mut wire = next.expect("it listens").expect("a connection");
    wire.write_all(b"!").await.expect("it takes a byte");
    wire
}

/// What both ends of one connection saw.
async fn meet(node: &Arc<Keyring>, caller: &Keyring, expected: Expected) -> Result<Bearer, Reason> {
    let (mut incoming, address) = listen(Arc::clone(node)).await;
    tokio::select! {
        biased;
        refused = call(caller, &address, &expected) => refused.map(|_| panic!("nobody spoke")),
        wire = welcome(&mut incoming) => {
            Ok(wire.bearer().clone())
        }
    }
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let (_home, folder, _) = cluster("dev");
    let node = keyring(&folder, BearerKind::Node, "n1");
    let shop = keyring(&folder, BearerKind::Client, "shop");
    let seen = meet(&node, &shop, Expected::AnyNode).await.unwrap();
    assert_eq!(seen.to_string(), "client `shop` of cluster `dev`");
    let named = Expected::Node("n1".to_owned());
    assert_eq!(meet(&node, &shop, named).await.unwrap().name, "shop");
}

#[tokio::test]
async fn another_node_than_the_expected_one_is_refused() {
    let (_home, folder, authority) = cluster("dev");
    issue(&authority, BearerKind::Node, "n2");
    let (n1, n2) = (
        keyring(&folder, BearerKind::Node, "n1"),
        keyring(&folder, BearerKind::Node, "n2"),
    );
    let expected = Expected::Node("n3".to_owned());
    assert_eq!(meet(&n1, &n2, expected).await, Err(Reason::WrongName));
}

#[tokio::test]
async fn a_client_cannot_pass_for_a_node() {
    let (_home, folder, _) = cluster("dev");
    let shop = keyring(&folder, BearerKind::Client, "shop");
    let refused = meet(&shop, &shop, Expected::AnyNode).await.unwrap_err();
    assert!(
        matches!(refused, Reason::WrongName | Reason::WrongPurpose),
        "{refused:?}"
    );
}

#[tokio::test]
async fn strangers_are_told_apart() {
    let (_home, folder, _) = cluster("dev");
    let (_other_home, other, _) = cluster("dev");
    let node = keyring(&folder, BearerKind::Node, "n1");
    // It trusts the right authority but was signed by another one: it would be refused, and says so itself.
    let mut files = other.of(BearerKind::Client, "shop");
    files.authorities = folder.authorities();
    let refused = Keyring::open(files).unwrap_err();
    assert!(
        matches!(
            &refused,
            TlsError::Refused {
                reason: Reason::UnknownAuthority,
                ..
            }
        ),
        "{refused}"
    );
    // It knows another authority only: it refuses the node.
    let stranger = keyring(&other, BearerKind::Client, "shop");
    let refused = meet(&node, &stranger, Expected::AnyNode).await;
    assert_eq!(refused, Err(Reason::UnknownAuthority));
    // It knows both, and the node does not know it.
    let both = [
        fs::read(folder.authorities()).unwrap(),
        fs::read(other.authorities()).unwrap(),
    ];
    fs::write(other.authorities(), both.concat()).unwrap();
    let stranger = keyring(&other, BearerKind::Client, "shop");
    let refused = meet(&node, &stranger, Expected::AnyNode).await;
    assert_eq!(refused, Err(Reason::UnknownAuthority));
}

#[tokio::test]
async fn who_shows_nothing_or_speaks_plainly_gets_nothing() {
    let (_home, folder, _) = cluster("dev");
    let node = keyring(&folder, BearerKind::Node, "n1");
    let (mut incoming, address) = listen(node).await;
    let mut plain = tokio::net::TcpStream::connect(&address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, plain.read_to_end(&mut answer)).await;
    read.expect("it is closed in time").ok();
    assert_eq!(answer.first(), Some(&0x15), "a TLS alert");
    // Others get in meanwhile.
    let shop = keyring(&folder, BearerKind::Client, "shop");
    let (called, wire) = tokio::join!(
        call(&shop, &address, &Expected::AnyNode),
        welcome(&mut incoming)
    );
    called.unwrap();
    assert_eq!(wire.bearer().name, "shop");
}

#[test]
fn files_that_cannot_serve_are_named_with_what_to_do() {
    let (_home, folder, authority) = cluster("dev");
    let check = |files, expected: &[&str]| {
        let error = Keyring::open(files).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    };
    check(
        folder.of(BearerKind::Node, "n9"),
        &["node.n9.crt", "make it with `souk cert`"],
    );
    let lasts = Duration::ZERO;
    authority
        .issue(BearerKind::Client, "late", &[], lasts)
        .unwrap();
    // The ends of certificates are whole seconds.
    std::thread::sleep(Duration::from_millis(1_100));
    check(
        folder.of(BearerKind::Client, "late"),
        &["client.late.crt", "has expired", "make a new one"],
    );
    let mut files = folder.of(BearerKind::Client, "shop");
    files.key = folder.of(BearerKind::Node, "n1").key;
    check(files, &["node.n1.key", "is not the key of"]);
    let files = folder.of(BearerKind::Client, "shop");
    let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    fs::set_permissions(&files.key, open).unwrap();
    check(files, &["client.shop.key", "chmod 600"]);
    let files = folder.of(BearerKind::Node, "n1");
    fs::write(&files.certificate, "nothing").unwrap();
    check(files, &["node.n1.crt", "holds no certificate"]);
}

#[test]
fn a_node_needs_its_own_certificate() {
    let (_home, folder, _) = cluster("dev");
    let files = folder.of(BearerKind::Node, "n1");
    Keyring::open_for_node(files.clone(), "dev", "n1").unwrap();
    for (cluster, node) in [("dev", "n2"), ("live", "n1")] {
        let error = Keyring::open_for_node(files.clone(), cluster, node).unwrap_err();
        assert!(matches!(error, TlsError::SomebodyElse { .. }), "{error}");
    }
}

#[tokio::test]
async fn new_files_are_taken_up_and_bad_ones_are_not() {
    let (_home, folder, authority) = cluster("dev");
    let node = keyring(&folder, BearerKind::Node, "n1");
    let shop = keyring(&folder, BearerKind::Client, "shop");
    // Another authority beside the first one, and the node's certificate is signed by it.
    let newer = Authority::make(&folder, "dev", AUTHORITY_LASTS, true).unwrap();
    issue(&newer, BearerKind::Node, "n1");
    drop(authority);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // The client's ring sees that the authorities' file has changed, the node's that all of its files have.
    assert!(meet(&node, &shop, Expected::AnyNode).await.is_ok());
    let alone = Authority::open(&folder).unwrap();
    assert_eq!(alone.cluster(), "dev");
    // Rubbish changes nothing.
    fs::write(folder.of(BearerKind::Node, "n1").certificate, "rubbish").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(meet(&node, &shop, Expected::AnyNode).await.is_ok());
}

#[tokio::test]
async fn who_is_revoked_is_cut_off() {
    let (_home, folder, authority) = cluster("dev");
    issue(&authority, BearerKind::Client, "other");
    let node = keyring(&folder, BearerKind::Node, "n1");
    let shop = keyring(&folder, BearerKind::Client, "shop");
    let other = keyring(&folder, BearerKind::Client, "other");
    let (mut incoming, address) = listen(Arc::clone(&node)).await;
    let expected = Expected::AnyNode;
    let (_called, mut wire) =
        tokio::join!(call(&shop, &address, &expected), welcome(&mut incoming));
    let (_other_called, mut other_wire) =
        tokio::join!(call(&other, &address, &expected), welcome(&mut incoming));
    let certificate = folder.of(BearerKind::Client, "shop").certificate;
    assert!(authority.revoke(&certificate).unwrap());
    assert!(!authority.revoke(&certificate).unwrap(), "twice is once");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    node.look();
    let mut byte = [0];
    let read = timeout(PATIENCE, wire.read(&mut byte))
        .await
        .expect("in time");
    assert!(read.is_err(), "{read:?}");
    // The other one goes on.
    let still = timeout(Duration::from_millis(50), other_wire.read(&mut byte)).await;
    assert!(still.is_err(), "{still:?}");
    let again = meet(&node, &shop, Expected::AnyNode).await;
    assert_eq!(again, Err(Reason::Revoked));
    assert!(meet(&node, &other, Expected::AnyNode).await.is_ok());
    // A list that was cut short lifts nothing.
    fs::write(folder.revoked(), "").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let again = meet(&node, &shop, Expected::AnyNode).await;
    assert_eq!(again, Err(Reason::Revoked));
}
