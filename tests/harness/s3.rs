//! A real S3 service in this process, with its files in a folder of its own.

use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

/// The id of the access key.
pub const ACCESS_KEY: &str = "AKIATESTS";
/// Its secret.
pub const SECRET_KEY: &str = "the-secret-of-the-tests";

/// A running S3 service. Stops when it is dropped.
pub struct S3 {
    folder: TempDir,
    addr: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl S3 {
    /// A service with one empty bucket. It checks the signature of every request.
    pub async fn start(bucket: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(bucket)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = hyper::server::conn::http1::Builder::new();
                connections.spawn(connection.serve_connection(TokioIo::new(stream), service.clone()));
            }
        });
        Self { folder, addr, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The names of the objects in a folder of a bucket.
    pub fn objects(&self, folder: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.folder.path().join(folder)) else { return Vec::new() };
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        // Those that begin with a dot are the service's own.
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}
