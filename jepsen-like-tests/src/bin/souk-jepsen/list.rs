//! `souk-jepsen list`: what there is.

use std::error::Error;

use clap::ValueEnum as _;
use serde_json::json;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::real::Abilities;
use souk_jepsen_like_tests::workload;

use crate::VALID;
use crate::args::{ListArgs, ModelName};

/// Prints workloads, faults and models.
pub(crate) fn list(args: &ListArgs) -> Result<u8, Box<dyn Error>> {
    let workloads: Vec<(String, String)> = workload::all()
        .iter()
        .map(|workload| (workload.name().to_owned(), workload.about().to_owned()))
        .collect();
    let abilities = args.real.then(Abilities::probe);
    let faults: Vec<(String, String)> = Fault::ALL
        .iter()
        .map(|fault| (fault.as_str().to_owned(), about(*fault, abilities.as_ref())))
        .collect();
    let models: Vec<(String, String)> = ModelName::value_variants()
        .iter()
        .filter_map(clap::ValueEnum::to_possible_value)
        .map(|model| {
            let about = model.get_help().map(ToString::to_string);
            (model.get_name().to_owned(), about.unwrap_or_default())
        })
        .collect();
    let sections = [
        ("workloads", workloads),
        ("faults", faults),
        ("models", models),
    ];
    if args.json {
        let object = |entries: &[(String, String)]| -> Vec<serde_json::Value> {
            let entry = |(name, about): &(String, String)| json!({"name": name, "about": about});
            entries.iter().map(entry).collect()
        };
        let all: serde_json::Map<_, _> = sections
            .iter()
            .map(|(title, entries)| ((*title).to_owned(), json!(object(entries))))
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(VALID);
    }
    for (title, entries) in sections {
        println!("{title}");
        for (name, about) in entries {
            println!("  {name:<20}{about}");
        }
    }
    Ok(VALID)
}

/// What a fault does, and why it cannot be done here, if that was tried.
fn about(fault: Fault, abilities: Option<&Abilities>) -> String {
    let lacks = abilities
        .map(|abilities| abilities.lacks_for(fault))
        .unwrap_or_default();
    let mut text = fault.about().to_owned();
    for lack in lacks {
        text += &format!("; not on real processes here: {lack}");
    }
    text
}
