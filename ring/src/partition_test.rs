use proptest::prelude::*;

use super::*;
use crate::token::token_of;

#[test]
fn takes_powers_of_two_only() {
    let check = |count: u32, allowed: bool| {
        assert_eq!(PartitionCount::new(count).is_ok(), allowed, "{count}");
    };
    check(0, false);
    check(1, true);
    check(2, true);
    check(3, false);
    check(255, false);
    check(256, true);
    check(65_536, true);
    check(131_072, false);
    check(u32::MAX, false);
    let message = PartitionCountError { count: 100 }.to_string();
    assert!(
        message.contains("100") && message.contains("such as 256"),
        "{message}"
    );
}

#[test]
fn top_bits_choose_the_partition() {
    let check = |count: u32, token: u64, partition: u32| {
        let count = PartitionCount::new(count).unwrap();
        assert_eq!(
            count.partition_of(Token(token)),
            PartitionId(partition),
            "{token:016x}"
        );
    };
    check(1, 0, 0);
    check(1, u64::MAX, 0);
    check(2, u64::MAX / 2, 0);
    check(2, u64::MAX / 2 + 1, 1);
    check(256, 0x7fff_ffff_ffff_ffff, 0x7f);
    check(256, 0xabcd_0000_0000_0000, 0xab);
    check(65_536, 0xabcd_ffff_ffff_ffff, 0xabcd);
}

#[test]
fn keys_fall_into_partitions_evenly() {
    let count = PartitionCount::default();
    let mut keys = vec![0_u32; count.get() as usize];
    for key in 0..256_000_u32 {
        keys[count
            .partition_of(token_of("carts", &key.to_be_bytes()))
            .index()] += 1;
    }
    // 1,000 keys are due to each; five standard deviations are 158.
    let (least, most) = (keys.iter().min().unwrap(), keys.iter().max().unwrap());
    assert!(
        *least > 842 && *most < 1158,
        "between {least} and {most} keys in a partition"
    );
}

proptest! {
    #[test]
    fn partitions_are_equal_consecutive_ranges(bits in 0..=16_u32, token in any::<u64>()) {
        let count = PartitionCount::new(1 << bits).unwrap();
        let width = (1_u128 << 64) / u128::from(count.get());
        let expected = u128::from(token) / width;
        prop_assert_eq!(u128::from(count.partition_of(Token(token)).0), expected);
    }
}
