//! What becomes of actors over stops of every kind.

use souk_kv_core::causality::{MergeMode, Mint as MintKind};
use souk_kv_storage::{MemoryDisk, StoreOptions};

use super::*;

const PARTITION: PartitionId = PartitionId(3);
const OTHER: PartitionId = PartitionId(4);
const RESERVE_BYTES: u64 = 100_000;

fn open(disk: &MemoryDisk) -> Store {
    Store::open(StoreOptions {
        disk_reserve_bytes: RESERVE_BYTES,
        ..StoreOptions::memory(disk.clone())
    })
    .expect("the store opens")
}

async fn mint(store: &Store) -> Mint {
    Mint::forget_unless_clean(store)
        .await
        .expect("the disk takes it");
    Mint::open(
        store.clone(),
        [PARTITION, OTHER].into_iter(),
        Environment::system(),
    )
    .await
    .expect("the disk takes it")
}

async fn actor(mint: &Mint, partition: PartitionId) -> ActorId {
    let actor = mint.actor(partition).await.expect("it can be had");
    actor.expect("the partition is its own")
}

/// Drops the last handle, as a node does that gives up, and waits until the writer has ended.
async fn drop_and_reopen(store: Store, disk: &MemoryDisk) -> Store {
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    open(disk)
}

#[tokio::test(start_paused = true)]
async fn actors_outlive_an_orderly_stop_only() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let first = actor(&mint(&store).await, PARTITION).await;
    store.close().await.expect("it closes");
    let store = open(&disk);
    let again = mint(&store).await;
    assert_eq!(actor(&again, PARTITION).await, first);
    disk.crash(1);
    let store = open(&disk);
    assert_ne!(actor(&mint(&store).await, PARTITION).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_half_way_washes_nothing_clean() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let first = actor(&mint(&store).await, PARTITION).await;
    disk.crash(1);
    let store = open(&disk);
    assert_eq!(store.recovery(), &Recovery::Unclean);
    Mint::forget_unless_clean(&store)
        .await
        .expect("the disk takes it");
    let store = drop_and_reopen(store, &disk).await;
    assert_eq!(store.recovery(), &Recovery::Clean);
    assert_ne!(actor(&mint(&store).await, PARTITION).await, first);
}

#[tokio::test(start_paused = true)]
async fn distrust_that_cannot_be_written_down_stays() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    mint(&store).await;
    disk.crash(1);
    let store = open(&disk);
    disk.set_capacity_bytes(Some(1));
    let forgotten = Mint::forget_unless_clean(&store).await;
    assert!(forgotten.is_err(), "the disk is full to the brim");
    disk.set_capacity_bytes(None);
    let store = drop_and_reopen(store, &disk).await;
    assert_eq!(store.recovery(), &Recovery::Unclean);
}

#[tokio::test(start_paused = true)]
async fn a_retired_actor_keeps_every_stop_unclean() {
    async fn check(is_orderly: bool) {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let minting = mint(&store).await;
        let first = actor(&minting, PARTITION).await;
        minting.retire(first);
        drop(minting);
        if is_orderly {
            store.close().await.expect("it closes");
        }
        let store = drop_and_reopen(store, &disk).await;
        assert_eq!(store.recovery(), &Recovery::Unclean);
        assert_ne!(actor(&mint(&store).await, PARTITION).await, first);
    }
    check(true).await;
    check(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_retired_actor_is_replaced_by_the_next_write_also_on_a_full_disk() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let minting = mint(&store).await;
    let (first, other) = (
        actor(&minting, PARTITION).await,
        actor(&minting, OTHER).await,
    );
    minting.retire(first);
    assert_eq!(minting.retired_count(), 1);
    disk.set_capacity_bytes(Some(RESERVE_BYTES));
    let second = actor(&minting, PARTITION).await;
    assert_ne!(second, first);
    minting.retire(first);
    assert_eq!(minting.retired_count(), 0, "it was out of use already");
    assert_eq!(actor(&minting, OTHER).await, other);
    store.close().await.expect("it closes");
    let store = open(&disk);
    assert_eq!(store.recovery(), &Recovery::Clean);
    assert_eq!(actor(&mint(&store).await, PARTITION).await, second);
}

#[tokio::test(start_paused = true)]
async fn one_cause_makes_one_successor() {
    let store = open(&MemoryDisk::new());
    let mint = mint(&store).await;
    let first = actor(&mint, PARTITION).await;
    let replace = || mint.replace_actor(PARTITION, Some(first), "a test");
    let (one, two) = tokio::join!(replace(), replace());
    assert_eq!(one.expect("made"), two.expect("found"));
    let next = actor(&mint, PARTITION).await;
    let third = mint
        .replace_actor(PARTITION, Some(next), "a test")
        .await
        .expect("made");
    assert!(third != next && third != first);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_no_clean_start() {
    async fn check(lease: Option<&'static [u8]>) {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let first = actor(&mint(&store).await, PARTITION).await;
        let mut batch = WriteBatch::new();
        match lease {
            Some(bytes) => batch.put(Keyspace::Meta, keys::META_LEASE, bytes),
            None => batch.delete(Keyspace::Meta, keys::META_LEASE),
        }
        store.commit(batch).await.expect("the disk takes it");
        store.close().await.expect("it closes");
        let store = open(&disk);
        assert_eq!(store.recovery(), &Recovery::Clean);
        assert_ne!(actor(&mint(&store).await, PARTITION).await, first);
    }
    check(None).await;
    check(Some(b"odd")).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_erased_is_known_over_a_restart() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let minting = mint(&store).await;
    let own = actor(&minting, PARTITION).await;
    assert_eq!(minting.erased_floor(PARTITION), None);
    let mut erased = Record::default();
    let dot = minting.dot(own).await.expect("it is leased");
    erased
        .bury(MergeMode::Siblings, dot, MintKind::Vector, 5)
        .expect("the dot is fresh");
    let commit = minting.note_erased(PARTITION, &erased, |floor| store.submit(floor));
    commit.await.expect("the disk takes it");
    let floor = minting.erased_floor(PARTITION).expect("it was noted");
    assert!(floor.explains(own, dot.counter) && !floor.explains(own, dot.counter + 1));
    drop(minting);
    store.close().await.expect("it closes");
    let store = open(&disk);
    let again = mint(&store).await;
    assert_eq!(again.erased_floor(PARTITION), Some(floor));
    assert_eq!(again.erased_floor(OTHER), None);
}
