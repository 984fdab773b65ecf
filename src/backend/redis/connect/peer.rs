//! Owns the addresses to which connections to one server are made. Knows nothing of sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::backend::redis::connect::resolver::Resolver;
use crate::backend::redis::failure::Failure;
use crate::backend::redis::time_budget::TimeBudget;
use crate::config::Endpoint;
use crate::error::{Error, Result};

/// The address of one end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerAddress {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// Where the addresses of a server come from.
pub(crate) enum Peers {
    Host(Resolver),
    #[cfg(unix)]
    Socket(PathBuf),
}

impl Peers {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => Ok(Self::Host(Resolver::new(host, *port))),
            Endpoint::Unix { path } => Self::of_socket(path.clone()),
        }
    }

    #[cfg(unix)]
    fn of_socket(path: PathBuf) -> Result<Self> {
        // The system allows about 100 bytes.
        match std::os::unix::net::SocketAddr::from_pathname(&path) {
            Ok(_) => Ok(Self::Socket(path)),
            Err(error) => {
                Err(Error::invalid_config("url", format!("its path cannot be that of a socket: {error}")))
            }
        }
    }

    #[cfg(not(unix))]
    fn of_socket(_: PathBuf) -> Result<Self> {
        Err(Error::Unsupported { what: "unix:// URLs: this system has no Unix sockets".to_owned() })
    }

    /// Returns the addresses, in the order in which they are tried.
    pub(crate) fn addresses(&self, budget: &TimeBudget) -> Result<Vec<PeerAddress>, Failure> {
        match self {
            Self::Host(resolver) => Ok(resolver.resolve(budget)?.into_iter().map(PeerAddress::Tcp).collect()),
            #[cfg(unix)]
            Self::Socket(path) => Ok(vec![PeerAddress::Unix(path.clone())]),
        }
    }
}
