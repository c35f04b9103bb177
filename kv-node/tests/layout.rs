//! Members that join and leave: staged, applied, moved under load, settled.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]
#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use souk_kv_client::{
    BucketMode, CasOutcome, Client, ClientOptions, Context, Key, LayoutPlanResponse,
    LayoutStageRequest, Outcome, ReadOptions, RequestError, StageChange, StageJoin, StageReplace,
    StageWeight, StageZone, Value, WriteOptions,
};
use souk_kv_node::{
    Environment, JoinOptions, Node, NodeOptions,
    config::{Address, NodeSection},
};
use support::{TestCluster, bucket, ports::free_ports};
use tempfile::TempDir;

const LOOKS: usize = 3000;
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn text(value: &str) -> Value {
    Value::new("text/plain", value.as_bytes().to_vec())
}

fn cart(number: u64) -> Key {
    Key::new("carts", format!("customer-{number}"), "")
}

fn sku(number: u64) -> Key {
    Key::new("stock", format!("sku-{number}"), "")
}

async fn founded(nodes: usize) -> (TestCluster, Client) {
    let cluster = TestCluster::start(nodes).await;
    let client = cluster.client().await;
    for (name, mode) in [
        ("stock", BucketMode::Register),
        ("carts", BucketMode::Siblings),
    ] {
        let created = client.admin().create_bucket(bucket(name, mode)).await;
        assert!(created.expect("a majority is there"));
    }
    (cluster, client)
}

fn stage(change: StageChange) -> LayoutStageRequest {
    LayoutStageRequest {
        change: Some(change),
    }
}

fn join(name: &str) -> StageChange {
    StageChange::Join(StageJoin {
        name: name.to_owned(),
        ..StageJoin::default()
    })
}

/// What a node starts from that joins `cluster`.
fn newcomer(cluster: &TestCluster, name: &str, data: &TempDir) -> NodeOptions {
    let ports = free_ports(2);
    let address = |port: u16| Address::parse(&format!("127.0.0.1:{port}")).unwrap();
    NodeOptions {
        config: cluster.config.clone(),
        name: name.to_owned(),
        data: data.path().join(name),
        join: Some(JoinOptions {
            section: NodeSection {
                name: name.to_owned(),
                zone: format!("zone-of-{name}"),
                weight: 1,
                grpc: address(ports[0]),
                http: address(ports[1]),
                engine: None,
            },
            doors: vec![cluster.config.nodes[0].grpc.to_string()],
        }),
    }
}

async fn plan_until(
    client: &Client,
    what: impl Fn(&LayoutPlanResponse) -> bool,
) -> LayoutPlanResponse {
    let mut last = None;
    for _ in 0..LOOKS {
        if let Ok(plan) = client.admin().layout_plan().await {
            if what(&plan) {
                return plan;
            }
            last = Some(plan);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let transfers = client.admin().transfers().await;
    panic!("the layout did not come to it: {last:?}, {transfers:?}");
}

/// Applies what is staged and waits until nothing moves any more. Gives the epoch.
async fn apply_and_settle(client: &Client) -> u64 {
    let plan = client.admin().layout_plan().await.unwrap();
    assert_eq!(plan.refused, "");
    let applied = client
        .admin()
        .layout_apply(plan.staged_version)
        .await
        .unwrap();
    assert!(!applied.applied_before);
    let settled = plan_until(client, |plan| {
        plan.layout_epoch >= applied.layout_epoch && plan.moving.is_empty()
    });
    settled.await.layout_epoch
}

/// Carts and reservations that go on all the time, and what they were told.
struct Load {
    running: Arc<AtomicBool>,
    told: Arc<Told>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    carts: parking_lot::Mutex<Vec<u64>>,
    next_cart: AtomicU64,
    reserved: AtomicU64,
    unknown: AtomicU64,
    failed: AtomicU64,
}

const CARTS: u64 = 60;
const STOCKS: u64 = 6;
const UNITS: u64 = 1_000_000;

async fn put_stock(client: &Client) {
    for number in 0..STOCKS {
        let units = text(&UNITS.to_string());
        let put = client
            .put_if_absent(&sku(number), units, WriteOptions::default())
            .await;
        assert!(matches!(put, Ok(CasOutcome::Applied { .. })), "{put:?}");
    }
}

async fn units(client: &Client, number: u64) -> u64 {
    let row = client
        .get_row(&sku(number), ReadOptions::default())
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&row.value.data).parse().unwrap()
}

impl Load {
    fn start(client: &Client, workers: u64) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let told = Arc::new(Told::default());
        let work = |number: u64| {
            let (client, running, told) = (client.clone(), Arc::clone(&running), Arc::clone(&told));
            tokio::spawn(async move {
                while running.load(Ordering::Relaxed) {
                    if number.is_multiple_of(2) {
                        fill_cart(&client, &told).await;
                    } else {
                        reserve(&client, &told, number % STOCKS).await;
                    }
                }
            })
        };
        let tasks = (0..workers).map(work).collect();
        Self {
            running,
            told,
            tasks,
        }
    }

    /// Ends the load when it has done something; everything that was acknowledged has to be there.
    async fn end_and_check(self, client: &Client) {
        let is_little = || {
            self.told.carts.lock().len() <= 50 || self.told.reserved.load(Ordering::Relaxed) <= 50
        };
        for _ in 0..LOOKS {
            if !is_little() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.running.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let carts = self.told.carts.lock().clone();

        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (reserved, unknown) = (count(&self.told.reserved), count(&self.told.unknown));
        let failed = count(&self.told.failed);
        println!(
            "{} carts, {reserved} reservations, {unknown} unknown, {failed} refused",
            carts.len()
        );
        assert!(carts.len() > 50 && reserved > 50, "the load hardly moved");
        for number in carts {
            let read = client
                .get(&cart(number), ReadOptions::default())
                .await
                .unwrap();
            assert_eq!(read.values.len(), 1, "cart {number} was acknowledged");
        }
        let mut taken = 0;
        for number in 0..STOCKS {
            taken += UNITS - units(client, number).await;
        }
        assert!(
            taken >= reserved,
            "{taken} units are gone, {reserved} were acknowledged"
        );
        assert!(
            taken <= reserved + unknown,
            "{taken} units are gone, {reserved} and perhaps {unknown} were taken"
        );
    }
}

async fn put_cart(client: &Client, number: u64) -> Result<(), RequestError> {
    let (key, context) = (cart(number), Context::default());
    let put = client.put(&key, text("tea"), &context, WriteOptions::default());
    put.await.map(drop)
}

async fn fill_cart(client: &Client, told: &Told) {
    let number = told.next_cart.fetch_add(1, Ordering::Relaxed);
    match put_cart(client, number).await {
        Ok(_) => told.carts.lock().push(number),
        Err(_) => {
            told.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn reserve(client: &Client, told: &Told, number: u64) {
    let Ok(Some(row)) = client.get_row(&sku(number), ReadOptions::default()).await else {
        told.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let left: u64 = String::from_utf8_lossy(&row.value.data).parse().unwrap();
    let left = text(&(left - 1).to_string());
    let put = client
        .put_if_version(&sku(number), &row.version, left, WriteOptions::default())
        .await;
    match put {
        Ok(CasOutcome::Applied { .. }) => told.reserved.fetch_add(1, Ordering::Relaxed),
        Ok(_) => 0,
        Err(error) if error.outcome() == Outcome::NotApplied => {
            told.failed.fetch_add(1, Ordering::Relaxed)
        }
        Err(_) => told.unknown.fetch_add(1, Ordering::Relaxed),
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_nothing_is_done_at_once() {
    let (_cluster, client) = founded(3).await;
    let admin = client.admin();
    let weight = StageChange::Weight(StageWeight {
        name: "n1".to_owned(),
        weight: 300,
    });
    let staged = admin.layout_stage(stage(weight)).await.unwrap();
    assert_eq!((staged.staged_version, staged.staged.len()), (1, 1));
    let zone = StageChange::Zone(StageZone {
        name: "n2".to_owned(),
        zone: "elsewhere".to_owned(),
    });
    admin.layout_stage(stage(zone)).await.unwrap();
    let stale = admin.layout_apply(1).await.unwrap_err().to_string();
    assert!(stale.contains("have come to version 2"), "{stale}");
    let plan = admin.layout_plan().await.unwrap();
    assert_eq!(
        (plan.staged.len(), plan.copies_moving, plan.staged_version),
        (2, 0, 2)
    );
    let applied = admin.layout_apply(2).await.unwrap();
    assert!(!applied.moving && !applied.applied_before);
    let again = admin.layout_apply(2).await.unwrap();
    assert!(again.applied_before);
    assert_eq!(again.layout_epoch, applied.layout_epoch);
    let plan = admin.layout_plan().await.unwrap();
    assert_eq!(plan.staged.len(), 0);
    let n1 = plan.nodes.iter().find(|node| node.name == "n1").unwrap();
    assert_eq!(n1.weight, 300);
    let history = admin.layout_history(None).await.unwrap();
    let what = history.deeds[0].what.join("; ");
    assert!(
        what.contains("weight of n1: 1 to 300") && what.contains("zone of n2"),
        "{what}"
    );
    let unknown = admin
        .layout_stage(stage(StageChange::Leave("n9".to_owned())))
        .await;
    let message = unknown.unwrap_err().to_string();
    assert!(message.contains("no member `n9`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_apply_one_change() {
    let (_cluster, client) = founded(3).await;
    let admin = client.admin();
    let weight = StageChange::Weight(StageWeight {
        name: "n3".to_owned(),
        weight: 50,
    });
    admin.layout_stage(stage(weight)).await.unwrap();
    let apply = || async { client.admin().layout_apply(1).await };
    let operators = (0..4).map(|_| apply());
    let told: Vec<_> = futures::future::join_all(operators).await;
    let epochs: Vec<u64> = told
        .iter()
        .map(|told| told.as_ref().unwrap().layout_epoch)
        .collect();
    assert_eq!(epochs, [2; 4]);
    admin.layout_revert().await.unwrap();
    let nothing = admin.layout_apply(2).await.unwrap_err().to_string();
    assert!(nothing.contains("no change is staged"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_grow_to_four_and_shrink_to_three_under_load() {
    let (mut cluster, client) = founded(3).await;
    put_stock(&client).await;
    let data = TempDir::new().unwrap();
    let load = Load::start(&client, 4);

    let options = newcomer(&cluster, "n4", &data);
    let joining = tokio::spawn(Node::start(options.clone(), Environment::system()));
    let plan = plan_until(&client, |plan| {
        plan.newcomers.iter().any(|node| node.name == "n4")
    });
    assert_eq!(plan.await.nodes.len(), 3);
    client
        .admin()
        .layout_stage(stage(join("n4")))
        .await
        .unwrap();
    let plan = client.admin().layout_plan().await.unwrap();
    assert_eq!((plan.copies_moving, plan.copies_total), (12, 48));
    let epoch = apply_and_settle(&client).await;
    assert_eq!(epoch, 3, "one layout of both, one of the next owners");
    let fourth = joining.await.unwrap().unwrap();

    // Somebody else may not begin before, and may now.
    client
        .admin()
        .layout_stage(stage(StageChange::Leave("n2".to_owned())))
        .await
        .unwrap();
    assert_eq!(apply_and_settle(&client).await, 5);
    let status = client.admin().status(None).await.unwrap();
    let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["n1", "n3", "n4"]);
    wait_until_left(&cluster, 1).await;
    cluster.stop_node(1).await;
    load.end_and_check(&client).await;

    // The one that has left is told so, and does not come back by itself.
    cluster
        .start_node_that_fails(1, "has left the cluster")
        .await;
    // The one that has joined comes back as the member it is.
    fourth.stop().await.unwrap();
    let fourth = Node::start(options, Environment::system()).await.unwrap();
    wait_ready(&fourth).await;
    fourth.stop().await.unwrap();
}

async fn wait_ready(node: &Node) {
    for _ in 0..LOOKS {
        if node.ready().is_ok() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("{:?}", node.ready());
}

async fn wait_until_left(cluster: &TestCluster, index: usize) {
    let mut last = Ok(());
    for _ in 0..LOOKS {
        last = cluster.ready(index);
        if matches!(&last, Err(why) if why.contains("has left the cluster")) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_and_the_move_survives_a_restart() {
    let (mut cluster, client) = founded(3).await;
    put_stock(&client).await;
    for number in 0..CARTS {
        put_cart(&client, number).await.unwrap();
    }
    cluster.stop_node(2).await;
    let data = TempDir::new().unwrap();
    let options = newcomer(&cluster, "n4", &data);
    let joining = tokio::spawn(Node::start(options.clone(), Environment::system()));
    plan_until(&client, |plan| !plan.newcomers.is_empty()).await;
    let replace = StageChange::Replace(StageReplace {
        name: "n3".to_owned(),
        with: Some(StageJoin {
            name: "n4".to_owned(),
            ..StageJoin::default()
        }),
    });
    client.admin().layout_stage(stage(replace)).await.unwrap();
    let plan = client.admin().layout_plan().await.unwrap();
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("n3 does not answer")),
        "{:?}",
        plan.warnings
    );
    client
        .admin()
        .layout_apply(plan.staged_version)
        .await
        .unwrap();
    let fourth = joining.await.unwrap().unwrap();
    // The node that pulls is stopped in the middle and goes on where it was.
    fourth.stop().await.unwrap();
    let fourth = Node::start(options, Environment::system()).await.unwrap();
    let plan = plan_until(&client, |plan| {
        plan.layout_epoch > 1 && plan.moving.is_empty()
    })
    .await;
    assert_eq!(plan.nodes.len(), 3);
    // Every read has to do with the newcomer now: one of the two others is taken away.
    cluster.stop_node(1).await;
    let client = Client::connect(ClientOptions::new([cluster.config.nodes[0]
        .grpc
        .to_string()]))
    .await
    .unwrap();
    for number in 0..CARTS {
        let read = client
            .get(&cart(number), ReadOptions::default())
            .await
            .unwrap();
        assert_eq!(read.values.len(), 1, "cart {number}");
    }
    for number in 0..STOCKS {
        assert_eq!(units(&client, number).await, UNITS);
    }
    fourth.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_end_is_called_off() {
    let (cluster, client) = founded(3).await;
    put_stock(&client).await;
    let data = TempDir::new().unwrap();
    let joining = tokio::spawn(Node::start(
        newcomer(&cluster, "n4", &data),
        Environment::system(),
    ));
    plan_until(&client, |plan| !plan.newcomers.is_empty()).await;
    client
        .admin()
        .layout_stage(stage(join("n4")))
        .await
        .unwrap();
    joining.abort();
    // Nobody is at the door any more who could pull anything.
    let applied = client.admin().layout_apply(1).await.unwrap();
    assert!(applied.moving);
    let second = client
        .admin()
        .layout_stage(stage(StageChange::Leave("n1".to_owned())))
        .await
        .unwrap();
    let refused = client
        .admin()
        .layout_apply(second.staged_version)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("still under way"), "{refused}");
    assert_eq!(
        units(&client, 1).await,
        UNITS,
        "two old owners and two of the next ones are enough"
    );
    client.admin().layout_revert().await.unwrap();
    let called_off = client.admin().layout_call_off().await.unwrap();
    assert_eq!(called_off.layout_epoch, 3);
    let plan = plan_until(&client, |plan| plan.moving.is_empty()).await;
    assert_eq!(plan.nodes.len(), 3);
    assert_eq!(units(&client, 1).await, UNITS);
    drop(cluster);
}
