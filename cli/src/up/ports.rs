//! Finds out before anything starts whether every address can be listened on.
//!
//! Why not leave it to the children: here the message can name the process that needs the address and
//! the key that moves it, and nothing has to be stopped again. A port taken in the moment between
//! this look and the child's start is reported by the child itself.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;

use super::UpError;
use super::plan::{Listen, Plan, Server};

/// Tries every address of the plan; `file` is the one that an operator would change.
///
/// # Errors
/// The first address that cannot be listened on.
pub(crate) fn check(plan: &Plan, file: Option<&PathBuf>) -> Result<(), UpError> {
    let listens = plan
        .servers()
        .flat_map(|server| server.listens.iter().map(move |listen| (server, listen)));
    for (server, listen) in listens {
        try_to_listen(server, listen, file)?;
    }
    Ok(())
}

fn try_to_listen(server: &Server, listen: &Listen, file: Option<&PathBuf>) -> Result<(), UpError> {
    let address = listen.address.clone();
    let Err(source) = TcpListener::bind((address.host(), address.port())) else {
        return Ok(());
    };
    let (who, key) = (server.name.clone(), listen.key.clone());
    Err(match source.kind() {
        ErrorKind::AddrInUse => UpError::PortInUse {
            address,
            who,
            key,
            file: file.cloned(),
        },
        _ => UpError::CannotListen {
            address,
            who,
            key,
            source,
        },
    })
}
