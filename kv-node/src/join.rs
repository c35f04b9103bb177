//! A node that wants to become a member: it shows itself to those who are, until a layout names it.
//!
//! A newcomer knocks at every door and says who it is and which store it has brought. It holds nothing and promises
//! nothing before a layout names that store; from then on it is a member like all others.
//!
//! Place: start-up, in front of `crate::identity`; the doors are `crate::members::newcomers`.
//! Invariants: 1. the store has its identity on disk before it is shown. 2. what is taken over is a layout in force that
//! names this very store. 3. a store of another cluster, or one that was a member and is not any more, does not join.
//! Not here: letting anybody in (`crate::members::staged`), moving copies (`crate::transfer`).

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use prost::Message;
use souk_kv_proto::{
    admin::{KnockRequest, admin_client::AdminClient},
    convert::{
        layout::{layout_from_wire, layout_to_wire},
        staging::newcomer_to_wire,
    },
    kv,
    store::StoreIdentity,
};
use souk_kv_storage::{Keyspace, Store, WriteBatch};
use souk_kv_tls::Expected;
use souk_ring::{Layout, MemberSpec};
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tracing::{debug, info, warn};

use crate::{
    clock::Environment,
    identity::{IdentityError, store_of},
    keys,
};

/// Between two rounds of knocking.
const KNOCK_EVERY: Duration = Duration::from_millis(500);
/// How long a door may take.
const DOOR_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds between two lines in the log.
const SAY_EVERY: u32 = 20;

/// Who knocks, and where.
#[derive(Debug)]
pub(crate) struct Knocker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) spec: &'a MemberSpec,
    /// The cluster that `cluster.toml` names.
    pub(crate) cluster_id: &'a str,
    /// `host:port` of members.
    pub(crate) doors: Vec<String>,
    pub(crate) environment: &'a Environment,
}

impl Knocker<'_> {
    /// The layout that names this node's store: the stored one, or the first that comes. Waits for it without end.
    pub(crate) async fn wait(mut self) -> Result<Layout, IdentityError> {
        let stored = self.stored()?;
        if let Some((identity, layout)) = &stored {
            if layout.member_named(self.spec.name.as_str()).is_some() {
                return Ok(layout.clone());
            }
            if identity.named {
                return Err(IdentityError::Left {
                    name: identity.node_name.clone(),
                    epoch: layout.epoch(),
                });
            }
        }
        let mut identity = stored.map(|(identity, _)| identity);
        for round in 0_u32.. {
            for door in self.doors.clone() {
                let Some(layout) = self.knock(&door, identity.as_ref()).await else {
                    continue;
                };
                if layout.cluster_id().as_str() != self.cluster_id {
                    return Err(IdentityError::OtherCluster {
                        stored: layout.cluster_id().to_string(),
                        asked: self.cluster_id.to_owned(),
                    });
                }
                let known = match &identity {
                    Some(known) => known.clone(),
                    None => self.found_identity(&layout).await?,
                };
                self.learn_doors(&layout);
                if names(&layout, self.spec, &known) {
                    self.take_over(&known, &layout).await?;
                    info!(
                        epoch = layout.epoch().0,
                        "a layout names this node: it is a member"
                    );
                    return Ok(layout);
                }
                identity = Some(known);
            }
            if round % SAY_EVERY == 0 {
                info!(
                    node = %self.spec.name,
                    doors = self.doors.join(", "),
                    "waiting to be let in: `souk admin layout join {}`, then `souk admin layout apply`",
                    self.spec.name
                );
            }
            sleep(KNOCK_EVERY).await;
        }
        unreachable!("it knocks without end")
    }

    /// What the store says of an earlier start.
    fn stored(&self) -> Result<Option<(StoreIdentity, Layout)>, IdentityError> {
        let damaged = |what, cause: String| IdentityError::Damaged { what, cause };
        let Some(bytes) = self.store.get(Keyspace::Meta, keys::META_IDENTITY)? else {
            return Ok(None);
        };
        let identity = StoreIdentity::decode(bytes)
            .map_err(|cause| damaged("the identity", cause.to_string()))?;
        let bytes = self
            .store
            .get(Keyspace::Meta, keys::META_LAYOUT)?
            .ok_or_else(|| damaged("the layout", "it is missing".to_owned()))?;
        let wire =
            kv::Layout::decode(bytes).map_err(|cause| damaged("the layout", cause.to_string()))?;
        let layout =
            layout_from_wire(wire).map_err(|cause| damaged("the layout", cause.to_string()))?;
        Ok(Some((identity, layout)))
    }

    async fn found_identity(&self, layout: &Layout) -> Result<StoreIdentity, IdentityError> {
        let identity = StoreIdentity {
            cluster_id: layout.cluster_id().to_string(),
            node_name: self.spec.name.to_string(),
            store_id: Bytes::copy_from_slice(&self.environment.random_id()),
            genesis_hash: layout.genesis_hash(),
            genesis_agreed: false,
            named: false,
        };
        self.write(&identity, layout).await?;
        Ok(identity)
    }

    async fn take_over(
        &self,
        identity: &StoreIdentity,
        layout: &Layout,
    ) -> Result<(), IdentityError> {
        let identity = StoreIdentity {
            genesis_agreed: true,
            named: true,
            ..identity.clone()
        };
        self.write(&identity, layout).await
    }

    async fn write(&self, identity: &StoreIdentity, layout: &Layout) -> Result<(), IdentityError> {
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::META_IDENTITY,
            identity.encode_to_vec(),
        );
        batch.put(
            Keyspace::Meta,
            keys::META_LAYOUT,
            layout_to_wire(layout).encode_to_vec(),
        );
        Ok(self.store.commit(batch).await?)
    }

    /// Every member hears of a newcomer by itself, so that an operator may ask any of them.
    fn learn_doors(&mut self, layout: &Layout) {
        let members = layout.members().values();
        let addresses = members.map(|member| member.grpc_address.clone());
        let mut known: BTreeSet<String> = self.doors.iter().cloned().collect();
        for address in addresses {
            if known.insert(address.clone()) {
                self.doors.push(address);
            }
        }
    }

    async fn knock(&self, door: &str, identity: Option<&StoreIdentity>) -> Option<Layout> {
        let request = KnockRequest {
            node: Some(newcomer_to_wire(self.spec, identity.map(store_of))),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: identity.map_or_else(String::new, |known| known.cluster_id.clone()),
        };
        let call = async {
            let endpoint = Endpoint::from_shared(format!("http://{door}"))?;
            let endpoint = endpoint.connect_timeout(DOOR_TIMEOUT);
            let network = self.environment.network();
            // Its name is not known yet; that it is a member is what certificates say.
            let channel = network.connect(&endpoint, &Expected::AnyNode).await?;
            let answer = AdminClient::new(channel)
                .max_decoding_message_size(crate::peer::FRAME_DECODE_BYTES_MAX)
                .knock(request)
                .await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer.into_inner())
        };
        let answer = match timeout(DOOR_TIMEOUT, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => {
                debug!(door, %cause, "nobody answered the knocking");
                return None;
            }
            Err(_) => return None,
        };
        match layout_from_wire(answer.layout.unwrap_or_default()) {
            Ok(layout) => Some(layout),
            Err(cause) => {
                warn!(door, %cause, "a member told a damaged layout");
                None
            }
        }
    }
}

fn names(layout: &Layout, spec: &MemberSpec, identity: &StoreIdentity) -> bool {
    let member = layout.member_named(spec.name.as_str());
    member.is_some_and(|member| member.store == Some(store_of(identity)))
}
