//! For tests: a proxy between clients and an emulator of AWS. Who stands between them sees each
//! call with its answer, and can make the trouble that a network and other writers make.

mod call;

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub use call::{Answer, Call};

/// What becomes of a call.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is made.
    Pass,
    /// It is made twice, as by a network that repeats it; the second answer is given.
    Twice,
    /// It is made, and nobody is told: the connection ends instead of an answer.
    Lost,
    /// It is not made; this is said instead.
    Refused(Answer),
}

/// Who stands between clients and services.
pub trait Between: Send + Sync + 'static {
    /// Decides on a call before it is made.
    fn fate(&self, call: &Call) -> Fate {
        let _ = call;
        Fate::Pass
    }

    /// Sees what a call came to, unless it was refused here.
    fn done(&self, call: &Call, answer: &Answer) {
        let _ = (call, answer);
    }
}

/// A proxy that serves as long as this value lives.
#[derive(Debug)]
pub struct Proxy {
    endpoint: String,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What each connection needs.
#[derive(Clone)]
struct Way {
    upstream: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    between: Arc<dyn Between>,
}

/// Ends a connection without an answer.
#[derive(Debug)]
struct Cut(String);

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cut {}

impl Proxy {
    /// A proxy on a free port of this machine, before the services at `upstream`
    /// (`http://host:port`).
    pub async fn to(upstream: &str, between: Arc<dyn Between>) -> io::Result<Self> {
        let upstream = upstream.parse().map_err(io::Error::other)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let way = Way {
            upstream,
            client,
            between,
        };
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(way.clone().serve(stream));
            }
        });
        Ok(Self { endpoint, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Way {
    async fn serve(self, stream: TcpStream) {
        // Without it small answers would wait for 40 ms.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(|request| self.answer(request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // It ends with an error when an answer is lost on purpose, or a client was killed.
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(cut)?.to_bytes();
        let call = Call::new(head, body);
        let fate = self.between.fate(&call);
        if let Fate::Refused(answer) = fate {
            return Ok(answer.into_response());
        }
        if matches!(fate, Fate::Twice) {
            self.make(&call).await?;
        }
        let answer = self.make(&call).await?;
        if matches!(fate, Fate::Lost) {
            return Err(Cut(format!("the answer to {} is lost", call.action())));
        }
        Ok(answer.into_response())
    }

    /// Makes a call.
    async fn make(&self, call: &Call) -> Result<Answer, Cut> {
        let mut to = self.upstream.clone().into_parts();
        to.path_and_query = call.head.uri.path_and_query().cloned();
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.head.method.clone();
        *request.uri_mut() = Uri::from_parts(to).map_err(cut)?;
        *request.headers_mut() = call.head.headers.clone();
        // What is sent has its length: all of it is here.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        request.headers_mut().remove(header::EXPECT);
        let (head, body) = self
            .client
            .request(request)
            .await
            .map_err(cut)?
            .into_parts();
        let body = body.collect().await.map_err(cut)?.to_bytes();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body,
        };
        self.between.done(call, &answer);
        Ok(answer)
    }
}

fn cut(error: impl std::error::Error) -> Cut {
    Cut(error.to_string())
}

impl Answer {
    fn into_response(mut self) -> Response<Full<Bytes>> {
        self.headers.remove(header::TRANSFER_ENCODING);
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
