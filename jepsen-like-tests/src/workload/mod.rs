//! What clients do: each workload sets up its data, runs clients that write down everything, and looks at
//! the end of it when all is well again.
//!
//! | Workload | Through | Checker |
//! |---|---|---|
//! | `register` | conditional writes of the client library | linearizable versioned-map |
//! | `cas-register` | the same, in Jepsen's words | linearizable cas-register |
//! | `set` | rows and scans of register groups | set, every read |
//! | `ledger` | atomic batches over one register group | ledger |
//! | `cart`, `cart-changes` | `souk_cart::store` | set, cart |
//! | `siblings`, `deletes` | puts and deletes with contexts | causal |
//! | `session` | the same by strict quorums | causal, every read |
//! | `latest` | puts to all copies of a `lww` bucket | latest |
//! | `shop-cart` | the shop's HTTP API | set |
//! | `stock`, `split-stock` | `souk_inventory::store` | stock |
//! | `checkout` | the shop's HTTP API | orders |
//!
//! Place: clients of the store and the shop; knows no faults.
//! Invariants: 1. an answer is written down as what it promises, never as what is likely. 2. a client of one
//! worker never shares a name with another. 3. a seed names everything that a client chooses.
//! Not here: processes (`crate::process`), when clients run (`crate::run`).

mod cart;
mod cas_register;
mod causal;
mod checkout;
mod client;
mod error;
mod failed;
mod latest;
mod ledger;
mod register;
mod set;
mod settle;
mod shop;
mod shop_cart;
mod stock;
mod world;

use futures::future::BoxFuture;

pub use cart::{Cart, CartChanges};
pub use cas_register::CasRegister;
pub use causal::{Deletes, Session, Siblings};
pub use checkout::Checkout;
pub use client::{ClientContext, ClientId, Target};
pub use error::WorkloadError;
pub use latest::Latest;
pub use ledger::Ledger;
pub use register::Register;
pub use set::Set;
pub use shop_cart::ShopCart;
pub use stock::Stock;
pub use world::{Simulated, World};

use crate::checker::Checker;
use crate::history::{History, Recorder};

/// A kind of traffic.
pub trait Workload: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it does, in a line.
    fn about(&self) -> &'static str;

    /// Whether it speaks to the shop.
    fn needs_shop(&self) -> bool {
        false
    }

    /// How many processes run it, and how many clients each.
    fn crowd(&self) -> Crowd;

    /// What the shop has to sell, as JSON Lines; empty when it does not matter.
    fn catalogue(&self) -> String {
        String::new()
    }

    /// Makes what clients rely on.
    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>>;

    /// One client, until its time is up.
    fn run(&self, context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>>;

    /// Looks at the end of it, when everything runs again. `until_now` is what all clients wrote down.
    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>>;

    /// Who judges it.
    fn checker(&self) -> Box<dyn Checker>;
}

/// How many clients run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Processes.
    pub workers: u32,
    /// Clients of each process.
    pub lanes: u32,
}

/// Every workload.
#[must_use]
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::new(Register::FEW),
        Box::new(Register::HOT),
        Box::new(Register::WIDE),
        Box::new(CasRegister),
        Box::new(Set),
        Box::new(Ledger),
        Box::new(Cart),
        Box::new(CartChanges),
        Box::new(Siblings),
        Box::new(Deletes),
        Box::new(Session),
        Box::new(Latest),
        Box::new(ShopCart),
        Box::new(Stock::WHOLE),
        Box::new(Stock::SPLIT),
        Box::new(Checkout),
    ]
}

/// The workload of that name.
///
/// # Errors
/// A text with all names.
pub fn named(name: &str) -> Result<Box<dyn Workload>, String> {
    let all = all();
    let names: Vec<&str> = all.iter().map(|workload| workload.name()).collect();
    let names = names.join(", ");
    all.into_iter()
        .find(|workload| workload.name() == name)
        .ok_or_else(|| format!("there is no workload `{name}`; the workloads are {names}"))
}
