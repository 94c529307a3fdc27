//! The cryptography below TLS: one library for the database's driver, the AI service and the photos.

/// Chooses it for the whole process. To be called before a client of HTTPS is made; again does nothing.
pub fn install() {
    // It is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
