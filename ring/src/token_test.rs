use proptest::prelude::*;

use super::*;

/// The vectors come from an independent SipHash-2-4, itself checked with the paper's test vector.
/// They are part of the data format: a change here loses every stored key.
#[test]
fn golden_vectors() {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let check = |bucket: &str, partition_key: &[u8], token: u64| {
        assert_eq!(
            token_of(bucket, partition_key),
            Token(token),
            "{bucket} {partition_key:?}"
        );
    };
    check("", b"", 0xdeb4_8539_cf09_efc1);
    check("carts", b"", 0x238b_c91f_c0eb_f1bc);
    check("carts", b"customer-7", 0xe207_c794_a8a9_fe4f);
    check("stock", b"sku-1/berlin", 0xc372_874c_abbd_be3e);
    check("ab", b"c", 0xf96f_d996_7354_a922);
    check("a", b"bc", 0x9d69_fd60_d423_af77);
    check("carts", &all_bytes, 0x8258_d94d_dc4b_cdb5);
    check("bücher", b"\x00\xff", 0x8f88_0545_d487_8d0f);
}

#[test]
fn published_keys_are_the_documented_text() {
    assert_eq!(TOKEN_KEY_0, 0x736f_756b_2d72_696e);
    assert_eq!(TOKEN_KEY_1, 0x672d_746f_6b65_6e31);
}

#[test]
fn prints_as_sixteen_hex_digits() {
    assert_eq!(Token(0xab).to_string(), "00000000000000ab");
}

proptest! {
    /// Bytes go in raw: how they are cut into writes makes no difference.
    #[test]
    fn equals_one_hash_of_all_bytes(bucket in "[a-z0-9-]{1,20}", key in prop::collection::vec(any::<u8>(), 0..64)) {
        let joined = [bucket.as_bytes(), &[0], &key].concat();
        let whole = SipHasher24::new_with_keys(TOKEN_KEY_0, TOKEN_KEY_1).hash(&joined);
        prop_assert_eq!(token_of(&bucket, &key), Token(whole));
    }

    #[test]
    fn bucket_and_key_do_not_run_together(bucket in "[a-z]{2,8}", key in "[a-z]{0,8}", cut in 1..8_usize) {
        let cut = cut.min(bucket.len() - 1);
        let shifted = format!("{}{key}", &bucket[cut..]);
        prop_assert_ne!(token_of(&bucket, key.as_bytes()), token_of(&bucket[..cut], shifted.as_bytes()));
    }
}
