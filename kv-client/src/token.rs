//! The token that a client shows, read again when its file changes.
//!
//! Place: I/O; asked by every link for each stream, and by calls of operators. The text never appears in logs or errors.
//! Invariants: 1. a file that cannot be read or holds no token changes nothing. 2. whatever a node says, a token goes
//! only where certificates have shown that a node of the cluster listens; `ClientOptions::validate` sees to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use souk_kv_core::access::TokenText;
use tokio::time::Instant;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::error::ClientError;

/// Shortest time between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is not plainly wrong is shorter than this.
const FILE_BYTES_MAX: u64 = 4096;

/// A connection on which every call shows the token.
pub(crate) type ShowingChannel = InterceptedService<Channel, ShowToken>;

/// The token of a client, if it has one. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Option<Arc<TokenFile>>);

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    current: ArcSwapOption<TokenText>,
    looked: Mutex<(Instant, Option<Stamp>)>,
}

type Stamp = (SystemTime, u64);

impl Tokens {
    /// Reads the file of a token.
    ///
    /// # Errors
    /// When it cannot be read or holds no token.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ClientError> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let stamp = stamp_of(path);
        let token = read(path)?;
        Ok(Self(Some(Arc::new(TokenFile {
            path: path.to_owned(),
            current: ArcSwapOption::from_pointee(token),
            looked: Mutex::new((Instant::now(), stamp)),
        }))))
    }

    /// The newest token. Looks at the file at most once a second.
    pub(crate) fn current(&self) -> Option<Arc<TokenText>> {
        let file = self.0.as_ref()?;
        file.look();
        file.current.load_full()
    }
}

impl TokenFile {
    fn look(&self) {
        let mut looked = self.looked.lock();
        if looked.0.elapsed() < LOOK_EVERY {
            return;
        }
        let stamp = stamp_of(&self.path);
        let is_new = looked.1 != stamp;
        *looked = (Instant::now(), stamp);
        drop(looked);
        if !is_new {
            return;
        }
        match read(&self.path) {
            Ok(token) => {
                self.current.store(Some(Arc::new(token)));
                tracing::info!(path = %self.path.display(), "the token was read anew");
            }
            Err(problem) => tracing::warn!(%problem, "the former token stays in use"),
        }
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

fn read(path: &Path) -> Result<TokenText, ClientError> {
    let unusable = |problem: String| ClientError::Token {
        path: path.to_owned(),
        problem,
    };
    let failed = |cause: io::Error| unusable(cause.to_string());
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(unusable("it is too long for a token".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    TokenText::parse(&text).ok_or_else(|| unusable("it holds no token".to_owned()))
}

/// Puts the token into each call.
#[derive(Clone, Debug)]
pub(crate) struct ShowToken(pub(crate) Tokens);

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.current() {
            let value = format!("Bearer {}", token.reveal());
            let mut value: MetadataValue<Ascii> =
                value.parse().expect("a token is digits and letters");
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}
