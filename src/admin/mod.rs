//! x
mod config;
pub use config::Config;
/// x
pub fn defang(t: &str) -> String { t.to_owned() }
/// x
pub struct Admin;
#[allow(missing_docs)]
impl Admin { pub fn new<R: crate::enforcement::Reinject>(_c: &Config, _t: String, _r: std::sync::Arc<crate::records::Records>, _x: std::sync::Arc<crate::enforcement::Release<R>>, _g: prometheus::Registry) -> Result<Self, std::io::Error> { Ok(Self) }
 pub async fn serve(self, _l: tokio::net::TcpListener, _d: tokio_util::sync::CancellationToken, s: tokio_util::sync::CancellationToken) { s.cancelled().await } }
