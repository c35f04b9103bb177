//! `souk-jepsen check`: judges a history in a file.

use std::error::Error;

use souk_jepsen_like_tests::checker::linear::{CasRegister, VersionedMap};
use souk_jepsen_like_tests::checker::{
    CartChecker, CausalChecker, Checker, LatestChecker, LedgerChecker, Linearizable, OrdersChecker,
    ReadPromise, SetChecker, StockChecker,
};
use souk_jepsen_like_tests::history::read_any;

use crate::args::{CheckArgs, ModelName};
use crate::code_of;

/// Judges and prints; the exit code is that of the verdict.
pub(crate) fn check(args: &CheckArgs) -> Result<u8, Box<dyn Error>> {
    let name = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|problem| format!("cannot read {name}: {problem}"))?;
    let history = read_any(&text)?;
    let report = checker(args.model).check(&history);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(code_of(&report.verdict))
}

fn checker(model: ModelName) -> Box<dyn Checker> {
    match model {
        ModelName::CasRegister => Box::new(Linearizable::new(CasRegister { is_keyed: false })),
        ModelName::KeyedCasRegister => Box::new(Linearizable::new(CasRegister { is_keyed: true })),
        ModelName::VersionedMap => Box::new(Linearizable::new(VersionedMap)),
        ModelName::Set => Box::new(SetChecker {
            promise: ReadPromise::Final,
        }),
        ModelName::LinearizableSet => Box::new(SetChecker {
            promise: ReadPromise::Every,
        }),
        ModelName::Cart => Box::new(CartChecker),
        ModelName::Causal => Box::new(CausalChecker {
            promise: ReadPromise::Final,
        }),
        ModelName::StrictCausal => Box::new(CausalChecker {
            promise: ReadPromise::Every,
        }),
        ModelName::Latest => Box::new(LatestChecker),
        ModelName::Ledger => Box::new(LedgerChecker),
        ModelName::Stock => Box::new(StockChecker),
        ModelName::Orders => Box::new(OrdersChecker),
    }
}
