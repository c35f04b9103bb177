//! What clients and operators ask over gRPC.
//!
//! | file | idea |
//! |---|---|
//! | `requests` | each request checked, routed, run; one entry for unary calls, sessions and forwarded requests |
//! | `batch_put` | puts of a batch, dealt into lots with the same replicas |
//! | `check` | limits of keys, values and ranges |
//! | `transact` | conditional writes between wire and register core |
//! | `session` | many requests over one stream |
//! | `unary` | the same requests one call each |
//! | `admin` | the operators' service |
//! | `layout` | the members and their layout: plan, stage, apply, who is at the door |
//! | `tokens` | making, replacing and ending tokens |
//! | `upkeep` | long work that operators ask for, with progress |
//!
//! Place: I/O; the outermost room of a node.

mod admin;
mod batch_put;
mod check;
mod hints;
mod layout;
mod requests;
mod session;
mod tokens;
mod transact;
mod unary;
mod upkeep;

pub(crate) use admin::AdminService;
pub(crate) use requests::Requests;
pub(crate) use unary::KvService;
