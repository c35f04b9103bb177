//! Adds to carts through the cart store of the shop, several clients to a cart; the other one of the two also removes
//! what clients added before.
//!
//! An element is `[SKU, quantity]`, with a SKU of its own for each add; so an add that counts twice is seen as
//! another element. An add that nobody confirmed is sent again under its tag.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::{Value as Json, json};
use souk_cart::store::{
    CartId, CartStore, CartStoreError, CartStoreOptions, ClientCarts, cart_bucket,
};
use souk_cart::{AddTag, CartView, Quantity, RemovalTag, Sku};
use souk_kv_client::Outcome;

use super::failed::not_answered;
use super::settle::{final_cart_reads, hints_delivered};
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{CartChecker, Checker, ReadPromise, SetChecker};
use crate::history::{History, Pending, Recorder};

const BUCKET: &str = "jepsen-carts";
/// Adds of one client to one cart; all clients fill the same carts.
const ADDS_PER_CART: u64 = 10;
/// Attempts of one add.
const ATTEMPTS_MAX: u32 = 4;
/// Pause between two adds of a client.
const PAUSE: Duration = Duration::from_millis(30);

/// Of the requests that change carts, so many remove something.
const REMOVE_SHARE: f64 = 0.35;

/// Adds only.
#[derive(Clone, Copy, Debug)]
pub struct Cart;

/// Adds and removals.
#[derive(Clone, Copy, Debug)]
pub struct CartChanges;

impl Workload for CartChanges {
    fn name(&self) -> &'static str {
        "cart-changes"
    }

    fn about(&self) -> &'static str {
        "adds to shared carts and removals; nothing is lost, and nothing removed comes back"
    }

    fn crowd(&self) -> Crowd {
        Cart.crowd()
    }

    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        Cart.set_up(target, recorder)
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            let carts = store(client);
            let mut number = 0_u64;
            // What this client added and did not remove yet; others add to the same carts meanwhile.
            let mut mine: Vec<(String, String)> = Vec::new();
            while context.pause(PAUSE).await {
                if !mine.is_empty() && context.random.random_bool(REMOVE_SHARE) {
                    let (cart, sku) = mine.swap_remove(context.random.random_range(0..mine.len()));
                    remove(&carts, &mut context, &cart, &sku).await;
                    continue;
                }
                let cart = format!("c{}", number / ADDS_PER_CART);
                let sku = format!("{}-{number}", context.id);
                let tag = AddTag::from_bytes(context.random.random());
                add(&carts, &mut context, &cart, &sku, tag).await;
                mine.push((cart, sku));
                number += 1;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        Cart.finish(target, recorder, until_now)
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(CartChecker)
    }
}

impl Workload for Cart {
    fn name(&self) -> &'static str {
        "cart"
    }

    fn about(&self) -> &'static str {
        "adds to shared carts through the cart store; nothing acknowledged may be lost"
    }

    fn crowd(&self) -> Crowd {
        Crowd {
            workers: 2,
            lanes: 3,
        }
    }

    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        _recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move { target.with_bucket(cart_bucket(BUCKET)).await.map(drop) }.boxed()
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            let carts = store(client);
            let mut number = 0_u64;
            while context.pause(PAUSE).await {
                let cart = format!("c{}", number / ADDS_PER_CART);
                let sku = format!("{}-{number}", context.id);
                let tag = AddTag::from_bytes(context.random.random());
                add(&carts, &mut context, &cart, &sku, tag).await;
                number += 1;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let client = target.connect("finish").await?;
            hints_delivered(&client, target).await?;
            let carts = store(client);
            let carts = &carts;
            let look = |cart: String| async move {
                let answer = carts.get(&cart_id(&cart)).await;
                answer
                    .map(|answer| elements(&answer.cart.view()))
                    .map_err(|problem| told(&problem))
            };
            final_cart_reads(&cart_names(until_now), recorder, look).await
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(SetChecker {
            promise: ReadPromise::Final,
        })
    }
}

fn store(client: souk_kv_client::Client) -> CartStore {
    CartStore::new(
        ClientCarts::new(client, BUCKET),
        CartStoreOptions::default(),
    )
}

async fn add(carts: &CartStore, context: &mut ClientContext, cart: &str, sku: &str, tag: AddTag) {
    for _ in 0..ATTEMPTS_MAX {
        let asked = json!([cart, [sku, 1]]);
        let pending = context.lane.invoke("add", asked);
        let (cart, sku) = (
            cart_id(cart),
            Sku::new(sku).expect("a short plain name is a SKU"),
        );
        let one = Quantity::new(1).expect("one is a quantity");
        let answer = carts.add(&cart, tag, sku, one, 0).await;
        let is_answered = match answer {
            Ok(answer) => {
                let notes =
                    json!({"degraded": answer.is_degraded(), "few_copies": answer.few_copies});
                acknowledge(pending, cart.as_str(), notes);
                true
            }
            Err(problem) => {
                not_answered(pending, problem.outcome(), told(&problem));
                problem.outcome() == Outcome::NotApplied
            }
        };
        if is_answered {
            return;
        }
    }
}

async fn remove(carts: &CartStore, context: &mut ClientContext, cart: &str, sku: &str) {
    let tag = RemovalTag::from_bytes(context.random.random());
    let pending = context.lane.invoke("remove", json!([cart, sku]));
    let wanted = Sku::new(sku).expect("a short plain name is a SKU");
    match carts.remove(&cart_id(cart), tag, &wanted).await {
        Ok(answer) => pending.ok(json!([cart, {"effect": answer.cart.knows_removal(tag)}])),
        Err(problem) => not_answered(pending, problem.outcome(), told(&problem)),
    }
}

fn acknowledge(pending: Pending<'_>, cart: &str, notes: Json) {
    pending.ok(json!([cart, notes]));
}

/// The message with its source.
fn told(problem: &CartStoreError) -> String {
    match std::error::Error::source(problem) {
        Some(source) => format!("{problem}: {source}"),
        None => problem.to_string(),
    }
}

fn cart_id(name: &str) -> CartId {
    CartId::new(name).expect("a short plain name is a cart id")
}

fn elements(view: &CartView) -> Json {
    view.lines()
        .iter()
        .map(|line| json!([line.sku.as_str(), line.quantity]))
        .collect()
}

/// All carts that anybody added to.
pub(super) fn cart_names(history: &History) -> BTreeSet<String> {
    let adds = history.operations_of("add");
    adds.iter()
        .filter_map(|add| Some(add.asked.get(0)?.as_str()?.to_owned()))
        .collect()
}
