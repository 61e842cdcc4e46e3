//! The certificates of a sandbox: a certificate authority like minikube's, the API server's certificate, and one for a
//! client of the group `system:masters`.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key of the certificate.
    pub key: String,
}

/// The certificates of a sandbox.
#[derive(Clone)]
pub struct Pki {
    /// The authority's certificate, in PEM.
    pub authority: String,
    /// The API server's certificate, for 127.0.0.1 and localhost.
    pub server: Pair,
    /// The certificate of a client in the group `system:masters`.
    pub client: Pair,
}

impl Pki {
    /// Generates a new authority and the certificates that it signs.
    pub fn generate() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "minikubeCA");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let signed = |names: &[&str], organization: &str, purpose| -> Result<Pair> {
            let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, names[0]);
            params.distinguished_name.push(DnType::OrganizationName, organization);
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &authority)?;
            Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        Ok(Self {
            server: signed(&["127.0.0.1", "localhost"], "xtask-faults", ExtendedKeyUsagePurpose::ServerAuth)?,
            client: signed(&["minikube-user"], "system:masters", ExtendedKeyUsagePurpose::ClientAuth)?,
            authority: authority.as_ref().pem(),
        })
    }

    /// Writes the certificates and keys into `folder`. Returns `folder`.
    pub fn write(&self, folder: &Utf8Path) -> Result<Utf8PathBuf> {
        std::fs::create_dir_all(folder)?;
        let files = [
            ("ca.crt", &self.authority),
            ("server.crt", &self.server.certificate),
            ("server.key", &self.server.key),
            ("client.crt", &self.client.certificate),
            ("client.key", &self.client.key),
        ];
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(folder.to_owned())
    }
}
