//! A cluster of nodes that only talk: each answers its session as a script says, and keeps what it heard.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use souk_kv_client::{Client, ClientOptions};
use souk_kv_proto::{
    convert::layout::layout_to_wire,
    kv::{
        self, BucketConfig, Error, ErrorCode, Outcome, RequestId, SessionRequest, SessionRequests,
        SessionResponse, SessionResponses, TopologyResponse,
        kv_server::{Kv, KvServer},
        session_request::Body as Question,
        session_response::Body as Answer,
    },
};
use souk_ring::{Layout, MemberSpec, PartitionCount, ReplicasN, Weight};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// What a node does with one question.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, and most are answers"
)]
pub(crate) enum Reply {
    Say(Answer),
    KeepSilent,
    /// Ends the session.
    Break,
}

type Script = Box<dyn FnMut(&Question) -> Reply + Send>;

/// One node.
#[derive(Clone)]
pub(crate) struct FakeNode {
    pub(crate) name: String,
    pub(crate) id: souk_ring::NodeId,
    heard: Arc<Mutex<Vec<Question>>>,
    script: Arc<Mutex<Script>>,
    pub(crate) frames: Arc<AtomicUsize>,
    cluster: Arc<Facts>,
}

/// What all nodes of a cluster say of it.
pub(crate) struct Facts {
    layout: Layout,
    pub(crate) buckets: Mutex<Vec<String>>,
    pub(crate) catalogue_version: AtomicU64,
}

pub(crate) struct FakeCluster {
    pub(crate) facts: Arc<Facts>,
    pub(crate) nodes: Vec<FakeNode>,
}

impl FakeCluster {
    /// Nodes `n1`, `n2`, ... that answer everything with their name, and a bucket `b`.
    pub(crate) async fn start(nodes_count: u32) -> FakeCluster {
        let mut listeners = Vec::new();
        let mut specs = Vec::new();
        for number in 1..=nodes_count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            specs.push(MemberSpec {
                name: format!("n{number}").parse().unwrap(),
                zone: format!("z{number}").parse().unwrap(),
                weight: Weight::default(),
                grpc_address: address.clone(),
                http_address: address,
            });
            listeners.push(listener);
        }
        let partitions = PartitionCount::new(16).unwrap();
        let copies = ReplicasN::new(3).unwrap();
        let layout = Layout::initial("fake".parse().unwrap(), partitions, copies, specs).unwrap();
        let facts = Arc::new(Facts {
            layout,
            buckets: Mutex::new(vec!["b".to_owned()]),
            catalogue_version: AtomicU64::new(1),
        });
        let nodes: Vec<_> = facts
            .layout
            .members()
            .values()
            .map(|member| {
                let name = member.name.to_string();
                FakeNode {
                    script: Arc::new(Mutex::new(says_its_name(&name))),
                    name,
                    id: member.id,
                    heard: Arc::default(),
                    frames: Arc::default(),
                    cluster: Arc::clone(&facts),
                }
            })
            .collect();
        for (node, listener) in nodes.iter().zip(listeners) {
            let server =
                tonic::transport::Server::builder().add_service(KvServer::new(node.clone()));
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        }
        FakeCluster { facts, nodes }
    }

    pub(crate) fn options(&self) -> ClientOptions {
        let members = self.facts.layout.members().values();
        ClientOptions::new(members.map(|member| member.grpc_address.clone()))
    }

    /// A client that is connected to every node.
    pub(crate) async fn client(&self, options: ClientOptions) -> Client {
        let client = Client::connect(options).await.unwrap();
        // The first keys of all nodes: every one of them has to answer once before the test begins.
        for node in &self.nodes {
            let mut tries = 0;
            while self.first_heard(&client, node).await.as_deref() != Some(node.name.as_str()) {
                tries += 1;
                assert!(tries < 1000, "{} was never reached", node.name);
                tokio::task::yield_now().await;
            }
        }
        for node in &self.nodes {
            node.heard.lock().clear();
            node.frames.store(0, Ordering::Relaxed);
        }
        client
    }

    /// The name of the node that answers a read of a key whose first primary is `node`.
    async fn first_heard(&self, client: &Client, node: &FakeNode) -> Option<String> {
        let key = self.key_at(client, node);
        let read = client
            .get(&key, souk_kv_client::ReadOptions::default())
            .await
            .ok()?;
        Some(String::from_utf8(read.values[0].data.to_vec()).unwrap())
    }

    /// A key of bucket `b` whose first primary is `node`.
    pub(crate) fn key_at(&self, client: &Client, node: &FakeNode) -> souk_kv_client::Key {
        let topology = client.topology();
        let name = (0..)
            .map(|number: u32| format!("key-{number}"))
            .find(|name| topology.primaries("b", name.as_bytes()).first() == Some(&node.id));
        souk_kv_client::Key::new("b", name.unwrap(), "")
    }

    /// The nodes of a key in the order in which they are asked.
    pub(crate) fn order(&self, client: &Client, key: &souk_kv_client::Key) -> Vec<&FakeNode> {
        let topology = client.topology();
        let primaries = topology.primaries("b", &key.partition_key);
        let node = |id| self.nodes.iter().find(|node| node.id == id).unwrap();
        primaries.iter().map(|id| node(*id)).collect()
    }
}

impl FakeNode {
    /// Answers by `script` from now on.
    pub(crate) fn follow(&self, script: impl FnMut(&Question) -> Reply + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    /// Everything heard so far, topology questions left out.
    pub(crate) fn heard(&self) -> Vec<Question> {
        self.heard.lock().clone()
    }

    fn topology(&self) -> TopologyResponse {
        let names = self.cluster.buckets.lock().clone();
        let buckets = names.into_iter().map(|name| BucketConfig {
            name,
            replicas_n: 3,
            ..BucketConfig::default()
        });
        TopologyResponse {
            buckets: buckets.collect(),
            catalogue_version: self.cluster.catalogue_version.load(Ordering::Relaxed),
            layout: Some(layout_to_wire(&self.cluster.layout)),
        }
    }

    async fn serve(
        self,
        mut questions: Streaming<SessionRequests>,
        answers: mpsc::Sender<Result<SessionResponses, Status>>,
    ) {
        while let Some(Ok(frame)) = questions.next().await {
            self.frames.fetch_add(1, Ordering::Relaxed);
            let mut responses = Vec::new();
            for SessionRequest { id, body } in frame.requests {
                match self.reply(body.unwrap()) {
                    Reply::Say(answer) => responses.push(SessionResponse {
                        id,
                        body: Some(answer),
                    }),
                    Reply::KeepSilent => {}
                    Reply::Break => {
                        let _ = answers
                            .send(Err(Status::unavailable("broken by the script")))
                            .await;
                        return;
                    }
                }
            }
            if responses.is_empty() {
                continue;
            }
            let catalogue_version = self.cluster.catalogue_version.load(Ordering::Relaxed);
            let frame = SessionResponses {
                responses,
                layout_epoch: 1,
                catalogue_version,
            };
            if answers.send(Ok(frame)).await.is_err() {
                return;
            }
        }
    }

    fn reply(&self, question: Question) -> Reply {
        if let Question::Topology(_) = question {
            return Reply::Say(Answer::Topology(self.topology()));
        }
        let reply = self.script.lock()(&question);
        self.heard.lock().push(question);
        reply
    }
}

/// Answers reads with `name`, and every write with success.
fn says_its_name(name: &str) -> Script {
    let name = name.to_owned();
    Box::new(move |question| Reply::Say(named_answer(&name, question)))
}

pub(crate) fn named_answer(name: &str, question: &Question) -> Answer {
    let value = kv::Value {
        data: name.to_owned().into(),
        ..kv::Value::default()
    };
    let found = kv::GetResponse {
        values: vec![value.clone()],
        ..kv::GetResponse::default()
    };
    let written = kv::PutResponse {
        copies: 3,
        ..kv::PutResponse::default()
    };
    match question {
        Question::Get(_) => Answer::Get(found),
        Question::Put(_) | Question::Delete(_) => Answer::Put(written),
        Question::Transact(_) => Answer::Transact(applied(b"v1")),
        Question::BatchGet(batch) => Answer::BatchGet(kv::BatchGetResponse {
            items: vec![
                kv::BatchGetItem {
                    result: Some(kv::batch_get_item::Result::Found(found))
                };
                batch.keys.len()
            ],
        }),
        Question::BatchPut(batch) => Answer::BatchPut(kv::BatchPutResponse {
            items: vec![
                kv::BatchPutItem {
                    result: Some(kv::batch_put_item::Result::Written(written))
                };
                batch.puts.len()
            ],
        }),
        Question::Scan(_) | Question::Topology(_) | Question::Authenticate(_) => {
            refusal(ErrorCode::Internal, Outcome::Unknown)
        }
    }
}

pub(crate) fn applied(version: &'static [u8]) -> kv::TransactResponse {
    let versions = vec![version.into()];
    let result = kv::transact_response::Result::Applied(kv::TransactApplied { versions });
    kv::TransactResponse {
        result: Some(result),
    }
}

pub(crate) fn refusal(code: ErrorCode, outcome: Outcome) -> Answer {
    Answer::Error(Error::new(code, outcome, "as the script says"))
}

/// The request id of a write.
pub(crate) fn request_id(question: &Question) -> RequestId {
    match question {
        Question::Put(put) => put.request_id.clone(),
        Question::Delete(delete) => delete.request_id.clone(),
        Question::Transact(transact) => transact.request_id.clone(),
        _ => None,
    }
    .expect("every write carries a request id")
}

#[tonic::async_trait]
impl Kv for FakeNode {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponses, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequests>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(self.clone().serve(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get(&self, _: Request<kv::GetRequest>) -> Result<Response<kv::GetResponse>, Status> {
        Err(only_sessions())
    }
    async fn put(&self, _: Request<kv::PutRequest>) -> Result<Response<kv::PutResponse>, Status> {
        Err(only_sessions())
    }
    async fn delete(
        &self,
        _: Request<kv::DeleteRequest>,
    ) -> Result<Response<kv::PutResponse>, Status> {
        Err(only_sessions())
    }
    async fn scan(
        &self,
        _: Request<kv::ScanRequest>,
    ) -> Result<Response<kv::ScanResponse>, Status> {
        Err(only_sessions())
    }
    async fn batch_get(
        &self,
        _: Request<kv::BatchGetRequest>,
    ) -> Result<Response<kv::BatchGetResponse>, Status> {
        Err(only_sessions())
    }
    async fn batch_put(
        &self,
        _: Request<kv::BatchPutRequest>,
    ) -> Result<Response<kv::BatchPutResponse>, Status> {
        Err(only_sessions())
    }
    async fn transact(
        &self,
        _: Request<kv::TransactRequest>,
    ) -> Result<Response<kv::TransactResponse>, Status> {
        Err(only_sessions())
    }
    async fn topology(
        &self,
        _: Request<kv::TopologyRequest>,
    ) -> Result<Response<TopologyResponse>, Status> {
        Err(only_sessions())
    }
}

fn only_sessions() -> Status {
    Status::unimplemented("the client library uses sessions")
}
