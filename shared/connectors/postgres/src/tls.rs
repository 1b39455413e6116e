//! What `sslmode` asks for, as libpq means it.
//!
//! Source: PostgreSQL documentation, "SSL Support" §34.19.1 and the parameters `sslmode` and
//! `sslrootcert` of §34.1.2. `allow` is treated as `prefer`.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::SettingsError;

/// How much of the server's certificate is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Any certificate will do: the line is encrypted, the server is not known.
    Anyone,
    /// It must be signed by an authority.
    Authority,
    /// It must be signed by an authority, and for the host that is connected to.
    Host,
}

/// The part of a connection's URL that is about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    pub(crate) trust: Trust,
    /// A file with the authorities; without it those of the system.
    pub(crate) authorities: Option<PathBuf>,
}

impl Tls {
    pub(crate) fn new(
        mode: Option<&str>,
        authorities: Option<String>,
    ) -> Result<Self, SettingsError> {
        let system = authorities.as_deref() == Some("system");
        let authorities = authorities.filter(|_| !system).map(PathBuf::from);
        let (mode, trust) = match mode {
            None if system => (SslMode::Require, Trust::Host),
            None | Some("prefer" | "allow") => (SslMode::Prefer, Trust::Anyone),
            Some("disable") => (SslMode::Disable, Trust::Anyone),
            Some("require") if authorities.is_some() => (SslMode::Require, Trust::Authority),
            Some("require") => (SslMode::Require, Trust::Anyone),
            Some("verify-ca") => (SslMode::Require, Trust::Authority),
            Some("verify-full") => (SslMode::Require, Trust::Host),
            Some(other) => {
                return Err(SettingsError(format!(
                    "`sslmode={other}` is none of disable, allow, prefer, require, verify-ca, verify-full"
                )));
            }
        };
        Ok(Self {
            mode,
            trust,
            authorities,
        })
    }

    /// What connects over TLS as asked for.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, SettingsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError(format!("TLS cannot be used: {error}")))?;
        let config = match self.trust {
            Trust::Host => config.with_root_certificates(self.roots()?),
            Trust::Authority => {
                let inner = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(self.roots()?),
                    Arc::clone(&provider),
                );
                let inner = inner
                    .build()
                    .map_err(|error| SettingsError(format!("TLS cannot be used: {error}")))?;
                dangerous(
                    config,
                    Lenient {
                        provider,
                        inner: Some(inner),
                    },
                )
            }
            Trust::Anyone => dangerous(
                config,
                Lenient {
                    provider,
                    inner: None,
                },
            ),
        };
        Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
    }

    fn roots(&self) -> Result<RootCertStore, SettingsError> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.authorities else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(SettingsError(
                    "this machine has no certificate authorities: install the package ca-certificates, or name a file with `sslrootcert=`".into(),
                ));
            }
            return Ok(roots);
        };
        let bad = |error: String| {
            SettingsError(format!(
                "the certificates in `{}`, which `sslrootcert` names, cannot be read: {error}",
                file.display()
            ))
        };
        for certificate in
            CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| bad(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("there is none in it".into()));
        }
        Ok(roots)
    }
}

type Unfinished = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;
type Verified = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn dangerous(config: Unfinished, verifier: Lenient) -> Verified {
    config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

/// Checks less than rustls does by itself: who signed the certificate but not for which host,
/// or nothing at all. That the server holds the certificate's key is checked in any case.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(certificate, between, host, ocsp, now) {
            // The name is looked at last, when all else is well.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
