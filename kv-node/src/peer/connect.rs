//! Opens the HTTP/2 connection under a link.

use std::time::Duration;

use souk_kv_proto::{network::Network, peer::peer_client::PeerClient};
use souk_kv_tls::Expected;
use tonic::transport::{Channel, Endpoint, Error};

use super::FRAME_DECODE_BYTES_MAX;

/// A dead peer is noticed within the sum of the two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Flow-control windows: what may be on its way before the other side has taken it.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

pub(super) async fn connect(
    network: &Network,
    address: &str,
    expected: &Expected,
) -> Result<PeerClient<Channel>, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let channel = network.connect(&endpoint, expected).await?;
    Ok(PeerClient::new(channel)
        .max_decoding_message_size(FRAME_DECODE_BYTES_MAX)
        .max_encoding_message_size(FRAME_DECODE_BYTES_MAX))
}
