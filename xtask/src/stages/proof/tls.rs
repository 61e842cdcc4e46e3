//! HTTPS to the Ingress controller. Its certificate must be for the host. An untrusted one is only a warning.

use std::net::TcpStream;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::http::RequestError;
use crate::origin::download::SYSTEM;

/// An encrypted connection.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Encrypts the connection `tcp` to `host`. Returns also why this machine does not trust the certificate, if it does not.
pub fn connect(tcp: TcpStream, host: &str) -> Result<(Stream, Option<String>), RequestError> {
    connect_with(ROOTS.clone(), tcp, host)
}

fn connect_with(
    roots: Arc<RootCertStore>,
    mut tcp: TcpStream,
    host: &str,
) -> Result<(Stream, Option<String>), RequestError> {
    let other = |what: String| RequestError::Other(what);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| other(format!("{host}: {error}")))?;
    let verifier = Arc::new(Verifier::new(roots));
    let config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| other(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(|error| other(error.to_string()))?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp).map_err(|error| request_error(&error, host))?;
    }
    let untrusted = verifier.untrusted.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((Stream::new(session, tcp), untrusted))
}

fn request_error(error: &std::io::Error, host: &str) -> RequestError {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
            RequestError::Certificate(host.to_owned())
        }
        _ => RequestError::of(error),
    }
}

/// Refuses a certificate for another host, and stores why a chain is not trusted.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: this machine has no certificate authorities.
    chain: Option<Arc<WebPkiServerVerifier>>,
    untrusted: Mutex<Option<String>>,
}

impl Verifier {
    fn new(roots: Arc<RootCertStore>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().ok();
        Self { provider, chain, untrusted: Mutex::new(None) }
    }
}

/// The bundle of certificate authorities that this process trusts besides the system's.
static BUNDLE: OnceLock<Utf8PathBuf> = OnceLock::new();

/// Trusts the authorities in `bundle` from now on. Called once, before the first connection.
pub fn trust(bundle: Utf8PathBuf) {
    BUNDLE.get_or_init(|| bundle);
}

/// The certificate authorities that this process trusts. Lazy, because reading the system's takes longer than a connection.
static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| roots(BUNDLE.get().map(Utf8PathBuf::as_path)));

fn roots(bundle: Option<&Utf8Path>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = SYSTEM.iter().find(|path| std::fs::exists(path).unwrap_or(false)).map(|path| Utf8Path::new(*path));
    for file in system.into_iter().chain(bundle) {
        let certificates = CertificateDer::pem_file_iter(file).into_iter().flatten().filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
    }
    Arc::new(roots)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        let error = match &self.chain {
            Some(chain) => chain.verify_server_cert(leaf, intermediates, name, ocsp, now).err(),
            None => Some(Error::General("this machine has no certificate authorities".to_owned())),
        };
        *self.untrusted.lock().unwrap_or_else(PoisonError::into_inner) = error.map(|error| error.to_string());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::http;
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Starts a server for one connection, with a certificate for `name`. Returns its address and that certificate.
    fn server(name: &str) -> (String, String) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![cert.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let tcp = listener.accept().unwrap().0;
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    return;
                }
                request.extend(byte);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Served-By: todo-frontend/p\r\nContent-Length: 2\r\n\r\nok");
        });
        (format!("127.0.0.1:{port}"), cert.pem())
    }

    fn get(name: &str) -> Result<http::Response, RequestError> {
        http::get(&format!("https://{}", server(name).0), "todo.test", "/")
    }

    #[test]
    fn the_authorities_of_a_bundle_are_trusted() {
        let bundle = tempfile::NamedTempFile::new().unwrap();
        let untrusted = |is_named: bool| {
            let (address, certificate) = server("todo.test");
            std::fs::write(bundle.path(), certificate).unwrap();
            let bundle = Utf8Path::from_path(bundle.path()).filter(|_| is_named);
            connect_with(roots(bundle), TcpStream::connect(address).unwrap(), "todo.test").ok().unwrap().1
        };
        assert_eq!(untrusted(true), None);
        assert!(untrusted(false).unwrap().contains("UnknownIssuer"));
    }

    #[test]
    fn a_certificate_of_an_unknown_authority_is_reported_and_one_for_another_host_is_refused() {
        let response = get("todo.test").unwrap();
        assert_eq!((response.status, response.header("X-Served-By")), (200, "todo-frontend/p"));
        assert!(response.untrusted.unwrap().contains("UnknownIssuer"));
        assert_eq!(get("other.test"), Err(RequestError::Certificate("todo.test".to_owned())));
        let broken = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let error = super::request_error(&std::io::Error::new(std::io::ErrorKind::InvalidData, broken), "todo.test");
        assert_eq!(error, RequestError::Other("invalid peer certificate: BadEncoding".to_owned()));
    }
}
