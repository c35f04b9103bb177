//! Clusters whose nodes and clients show certificates to each other.

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use souk_kv_client::{
    BucketMode, Client, ClientOptions, Context, ErrorCode, Key, Outcome, ReadOptions, RequestError,
    Value, WriteOptions,
};
use souk_kv_node::{Environment, Node, NodeError};
use souk_kv_proto::{
    network::Network,
    peer::{Hello, PeerFrame, PeerMessage, peer_client::PeerClient, peer_message::Body},
};
use souk_kv_tls::{
    BearerKind, Expected, Folder, Keyring, TlsError,
    authority::{AUTHORITY_LASTS, Authority, CERTIFICATE_LASTS},
};
use support::{TestCluster, bucket};
use tempfile::TempDir;
use tonic::transport::Endpoint;

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of certificates for nodes n1 to n3, an operator and a client.
struct Certificates {
    home: TempDir,
    folder: Folder,
    authority: Authority,
}

impl Certificates {
    fn make() -> Self {
        let home = TempDir::new().expect("a directory");
        let folder = Folder::new(home.path().join("certs"));
        let authority = Authority::make(&folder, "souk-test", AUTHORITY_LASTS, false);
        let certificates = Self {
            home,
            folder,
            authority: authority.expect("an authority"),
        };
        certificates.issue_all(&certificates.authority);
        certificates
    }

    fn issue_all(&self, authority: &Authority) {
        for (kind, name) in [
            (BearerKind::Node, "n1"),
            (BearerKind::Node, "n2"),
            (BearerKind::Node, "n3"),
            (BearerKind::Operator, "ann"),
            (BearerKind::Client, "shop"),
        ] {
            let made = authority.issue(kind, name, &[], CERTIFICATE_LASTS);
            made.expect("a certificate");
        }
    }

    async fn cluster(&self) -> TestCluster {
        let folder = self.folder.path().to_owned();
        TestCluster::start_changed(3, |config| {
            config.security.certificates = Some(folder);
        })
        .await
    }

    fn options(&self, cluster: &TestCluster, kind: BearerKind, name: &str) -> ClientOptions {
        ClientOptions {
            certificates: Some(self.folder.of(kind, name)),
            startup_timeout: Duration::from_secs(3),
            ..ClientOptions::new(cluster.config.endpoints())
        }
    }

    async fn operator(&self, cluster: &TestCluster) -> Client {
        Client::connect(self.options(cluster, BearerKind::Operator, "ann"))
            .await
            .expect("a node answers")
    }
}

async fn put(client: &Client, key: &Key, value: &str) {
    let value = Value::new("text/plain", value.as_bytes().to_vec());
    client
        .put(key, value, &Context::default(), WriteOptions::default())
        .await
        .expect("a quorum answers");
}

async fn create(client: &Client, name: &str, mode: BucketMode) {
    let made = client.admin().create_bucket(bucket(name, mode)).await;
    assert!(made.expect("a majority is there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_bearers_of_the_cluster_are_served() {
    let certificates = Certificates::make();
    let cluster = certificates.cluster().await;
    let client = certificates.operator(&cluster).await;
    create(&client, "carts", BucketMode::Siblings).await;
    let key = Key::new("carts", "customer-1", "");
    put(&client, &key, "tea").await;
    let read = client.get(&key, ReadOptions::default()).await;
    assert_eq!(read.expect("a quorum answers").values.len(), 1);

    let refused = |options: ClientOptions| async move {
        let refused = Client::connect(options).await;
        refused.expect_err("nobody answers").to_string()
    };
    // Somebody of another authority that goes by the same name.
    let others = Certificates::make();
    let told = refused(others.options(&cluster, BearerKind::Operator, "ann")).await;
    assert!(
        told.contains("is signed by an authority that is not"),
        "{told}"
    );
    // Somebody who knows the right authority, but was signed by the wrong one: told by its own files.
    let mut options = others.options(&cluster, BearerKind::Operator, "ann");
    if let Some(files) = &mut options.certificates {
        files.authorities = certificates.folder.authorities();
    }
    let told = refused(options).await;
    assert!(told.contains("make it anew with `souk cert`"), "{told}");
    // Somebody without any certificate.
    let mut options = ClientOptions::new(cluster.config.endpoints());
    options.startup_timeout = Duration::from_secs(1);
    let told = refused(options).await;
    assert!(told.contains("--ca"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_with_its_own_certificate_only() {
    let certificates = Certificates::make();
    let mut cluster = certificates.cluster().await;
    let others = certificates.folder.of(BearerKind::Node, "n3");
    let own = certificates.folder.of(BearerKind::Node, "n2");
    cluster.stop_node(1).await;
    std::fs::copy(&others.certificate, &own.certificate).expect("a copy");
    std::fs::copy(&others.key, &own.key).expect("a copy");
    let started = Node::start(cluster.options(1), Environment::system()).await;
    let error = started.expect_err("it is somebody else's");
    assert!(
        matches!(
            error,
            NodeError::Certificates(TlsError::SomebodyElse { .. })
        ),
        "{error}"
    );
    std::fs::remove_file(&own.key).expect("it was there");
    let started = Node::start(cluster.options(1), Environment::system()).await;
    let told = started.expect_err("there is no key").to_string();
    assert!(told.contains("node.n2.key"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_another_node() {
    let certificates = Certificates::make();
    let cluster = certificates.cluster().await;
    let greet = |kind, name: &'static str, claims: &'static str| {
        let keyring = Keyring::open(certificates.folder.of(kind, name)).expect("usable files");
        let address = cluster.config.nodes[0].grpc.to_string();
        async move {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            let network = Network::Secure(keyring);
            let expected = Expected::Node("n1".to_owned());
            let channel = network.connect(&endpoint, &expected).await;
            let hello = Hello {
                cluster_id: "souk-test".to_owned(),
                node_id: 2,
                node_name: claims.to_owned(),
                ..Default::default()
            };
            let message = PeerMessage {
                body: Some(Body::Hello(hello)),
                ..Default::default()
            };
            let frame = PeerFrame {
                messages: vec![message],
            };
            let mut client = PeerClient::new(channel.expect("it is let in"));
            let frames = tokio_stream::iter([frame]);
            let mut answers = match client.link(frames).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => return status.message().to_owned(),
            };
            let frame = answers
                .message()
                .await
                .expect("an answer")
                .expect("a frame");
            match frame
                .messages
                .into_iter()
                .next()
                .and_then(|message| message.body)
            {
                Some(Body::Error(error)) => error.message,
                other => format!("{other:?}"),
            }
        }
    };
    let told = greet(BearerKind::Node, "n3", "n2").await;
    assert!(
        told.contains("shows the certificate of node `n3`"),
        "{told}"
    );
    let told = greet(BearerKind::Operator, "ann", "n2").await;
    assert!(told.contains("only nodes of the cluster"), "{told}");
    // The right one gets further: only the first layout that it should have is missing.
    let told = greet(BearerKind::Node, "n2", "n2").await;
    assert!(told.contains("first layout"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authority_are_replaced_under_load() {
    let certificates = Certificates::make();
    let mut cluster = certificates.cluster().await;
    let client = certificates.operator(&cluster).await;
    create(&client, "carts", BucketMode::Siblings).await;
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let load = {
        let (stop, written, client) = (Arc::clone(&stop), Arc::clone(&written), client.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let number = written.fetch_add(1, Ordering::AcqRel);
                put(&client, &Key::new("carts", number.to_string(), ""), "tea").await;
            }
        })
    };
    // A new authority beside the old one, then new certificates of it, then the old one goes.
    let newer = Authority::make(&certificates.folder, "souk-test", AUTHORITY_LASTS, true);
    let newer = newer.expect("an authority");
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    certificates.issue_all(&newer);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    // A node that starts now meets others that have not.
    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    cluster.wait_ready().await;
    keep_first_authority(&certificates.folder.authorities());
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let before = written.load(Ordering::Acquire);
    let until = tokio::time::Instant::now() + PATIENCE;
    while written.load(Ordering::Acquire) < before + 20 {
        assert!(tokio::time::Instant::now() < until, "writes go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Release);
    load.await.expect("no write failed");
    // Everybody holds certificates of the new authority now.
    let late = certificates.operator(&cluster).await;
    for number in 0..written.load(Ordering::Acquire) {
        let key = Key::new("carts", number.to_string(), "");
        let read = late.get(&key, ReadOptions::default()).await;
        assert_eq!(read.expect("a quorum answers").values.len(), 1, "{number}");
    }
}

/// Takes all certificates but the first out of a file.
fn keep_first_authority(path: &Path) {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::fs::read_to_string(path).expect("it is there");
    let first = text.split_inclusive(END).next().unwrap_or_default();
    std::fs::write(path, format!("{first}\n")).expect("it can be written");
}

impl Certificates {
    /// A client with the certificate of the shop and a token of these grants.
    async fn holder(&self, cluster: &TestCluster, token: &str) -> Client {
        let file = self.home.path().join("token");
        std::fs::write(&file, token).expect("it can be written");
        let options = ClientOptions {
            token_file: Some(file),
            ..self.options(cluster, BearerKind::Client, "shop")
        };
        Client::connect(options).await.expect("a node answers")
    }
}

async fn try_put(client: &Client, bucket: &str) -> Result<(), (ErrorCode, String)> {
    let value = Value::new("text/plain", b"tea".to_vec());
    // Not one key again and again: without its context each value would be kept beside the others.
    static WRITES: AtomicU32 = AtomicU32::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed).to_string();
    let key = Key::new(bucket, number, "");
    let (context, options) = (Context::default(), WriteOptions::default());
    let written = client.put(&key, value, &context, options).await;
    written.map(drop).map_err(told)
}

async fn try_get(client: &Client, bucket: &str) -> Result<(), (ErrorCode, String)> {
    let key = Key::new(bucket, "customer-1", "");
    let read = client.get(&key, ReadOptions::default()).await;
    read.map(drop).map_err(told)
}

fn told(error: RequestError) -> (ErrorCode, String) {
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    (error.code, error.message)
}

/// Asks until the answer is as expected, on every node: news of tokens travel with signs of life.
async fn eventually<F>(what: &str, ask: impl Fn() -> F)
where
    F: Future<Output = bool>,
{
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < 20 {
        in_a_row = if ask().await { in_a_row + 1 } else { 0 };
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_it_grants_and_nothing_else() {
    let certificates = Certificates::make();
    let cluster = certificates.cluster().await;
    let ann = certificates.operator(&cluster).await;
    for name in ["carts", "catalog", "orders"] {
        create(&ann, name, BucketMode::Siblings).await;
    }
    let grants = ["read,write:cart", "read:catalog"].map(str::to_owned);
    let made = ann.admin().create_token("shop", &grants, None).await;
    let secret = made.expect("a majority is there").token;
    let shop = certificates.holder(&cluster, &secret).await;
    eventually("the token is known everywhere", || async {
        try_put(&shop, "carts").await.is_ok()
    })
    .await;
    try_get(&shop, "carts").await.expect("it may");
    try_get(&shop, "catalog").await.expect("it may");
    let (code, message) = try_put(&shop, "catalog").await.expect_err("it may not");
    assert_eq!(code, ErrorCode::PermissionDenied);
    assert!(message.contains("--grant write:catalog"), "{message}");
    // A bucket that is none of its business is not even seen.
    assert_eq!(
        shop.topology().buckets().keys().collect::<Vec<_>>(),
        ["carts", "catalog"]
    );
    assert!(try_get(&shop, "orders").await.is_err());
    let admin = shop.admin();
    let refused = [
        admin
            .create_bucket(bucket("cart-x", BucketMode::Lww))
            .await
            .map(drop),
        admin.hints(None).await.map(drop),
        admin.list_tokens().await.map(drop),
        admin.forget("n3").await.map(drop),
        admin
            .create_token("mine", &["admin:*".to_owned()], None)
            .await
            .map(drop),
    ];
    for refused in refused {
        let (code, message) = told(refused.expect_err("it may not"));
        assert_eq!(code, ErrorCode::PermissionDenied, "{message}");
    }
    assert_eq!(admin.list_buckets().await.expect("it may").len(), 2);
    admin.status(None).await.expect("it may");
    // The secret is shown to nobody again.
    let listed = ann
        .admin()
        .list_tokens()
        .await
        .expect("a majority is there");
    assert_eq!(listed.len(), 1);
    let end_of_secret = &secret[secret.len() - 16..];
    assert!(!format!("{listed:?} {shop:?}").contains(end_of_secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_good_token_is_refused() {
    let certificates = Certificates::make();
    let cluster = certificates.cluster().await;
    let ann = certificates.operator(&cluster).await;
    create(&ann, "carts", BucketMode::Siblings).await;
    // A certificate alone is not enough.
    let refused = Client::connect(certificates.options(&cluster, BearerKind::Client, "shop")).await;
    let text = refused.expect_err("no token").to_string();
    assert!(text.contains("--token-file"), "{text}");
    // Nor is a token that was never made.
    let invented = format!("souk_{}_{}", "ab".repeat(8), "cd".repeat(32));
    let file = certificates.home.path().join("token");
    std::fs::write(&file, &invented).expect("it can be written");
    let mut options = certificates.options(&cluster, BearerKind::Client, "shop");
    options.token_file = Some(file);
    let refused = Client::connect(options).await;
    let text = refused.expect_err("an unknown token").to_string();
    assert!(text.contains("not known here, or was revoked"), "{text}");
    assert!(!text.contains("cdcd"), "{text}");
    // Nor one whose time is over.
    let grants = ["read,write:carts".to_owned()];
    let lasts = Some(Duration::from_millis(1_500));
    let made = ann.admin().create_token("short", &grants, lasts).await;
    let secret = made.expect("a majority is there").token;
    let shop = certificates.holder(&cluster, &secret).await;
    eventually("its time is over", || async {
        matches!(try_get(&shop, "carts").await, Err((ErrorCode::Unauthenticated, text)) if text.contains("time of token"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_replaced_and_revoked_without_a_restart() {
    let certificates = Certificates::make();
    let cluster = certificates.cluster().await;
    let ann = certificates.operator(&cluster).await;
    create(&ann, "carts", BucketMode::Siblings).await;
    let grants = ["read,write:carts".to_owned()];
    let made = ann.admin().create_token("shop", &grants, None).await;
    let secret = made.expect("a majority is there").token;
    let shop = certificates.holder(&cluster, &secret).await;
    eventually("the token is known everywhere", || async {
        try_put(&shop, "carts").await.is_ok()
    })
    .await;
    // A new secret under load: the old one stays good until the file has been read again.
    let overlap = Duration::from_secs(4);
    let rotated = ann.admin().rotate_token("shop", overlap).await;
    let newer = rotated.expect("a majority is there").token;
    assert_ne!(newer, secret);
    std::fs::write(certificates.home.path().join("token"), &newer).expect("it can be written");
    let until = tokio::time::Instant::now() + overlap + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        try_put(&shop, "carts").await.expect("no write fails");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The old one is worth nothing now.
    let old = certificates.home.path().join("old-token");
    std::fs::write(&old, &secret).expect("it can be written");
    let mut options = certificates.options(&cluster, BearerKind::Client, "shop");
    options.token_file = Some(old);
    assert!(Client::connect(options).await.is_err());
    // Revoked, on streams that stand.
    ann.admin()
        .revoke_token("shop")
        .await
        .expect("a majority is there");
    eventually("it is revoked everywhere", || async {
        matches!(
            try_put(&shop, "carts").await,
            Err((ErrorCode::Unauthenticated, _))
        )
    })
    .await;
    let again = ann.admin().revoke_token("shop").await;
    assert!(
        again
            .expect_err("it is gone")
            .message
            .contains("no token `shop`")
    );
}
