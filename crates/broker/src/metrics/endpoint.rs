//! The HTTP listener for `/metrics`, `/livez` and `/readyz`: a thread of its own, there before the store is opened.
//!
//! Whoever connects costs one of [`CONNECTIONS_MAX`] places, [`HEAD_BYTES_MAX`] and [`CONNECTION_TIME`] at most. A connection
//! serves one request. Pages are made one after the other on another thread; all who asked before one was begun share it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{spawn_blocking, spawn_local};

use super::health::Health;
use super::{Metrics, text};

/// Open connections. Those beyond are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long they may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Pause after an error such as "too many open files", which would come back at once.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Ends when it is dropped.
pub(crate) struct Endpoint {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Without metrics it tells of health only.
    pub(crate) fn start(addr: SocketAddr, has_metrics: bool, health: Arc<Health>) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, has_metrics, health) => {}
                        // An error means that the endpoint is gone.
                        _ = stopped => {}
                    }
                }),
                Err(error) => tracing::error!(%error, "the thread of the metrics cannot run"),
            }
        };
        let thread = thread::Builder::new().name("broker-metrics".into()).spawn(run)?;
        Ok(Endpoint {
            addr,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by a panic, which the join tells.
            let _ = stop.send(());
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the metrics had panicked");
        }
    }
}

async fn accept(listener: TcpListener, has_metrics: bool, health: Arc<Health>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "nobody can ask for metrics"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let pages = Rc::new(Pages::new(has_metrics, health));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics is lost");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let pages = Rc::clone(&pages);
        spawn_local(async move {
            serve(stream, pages).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, pages: Rc<Pages>) {
    let answer = service_fn(move |request: Request<_>| {
        let pages = Rc::clone(&pages);
        async move { Ok::<_, Infallible>(answer(&request, &pages).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ends"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

async fn answer(request: &Request<hyper::body::Incoming>, pages: &Pages) -> Response<Page> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" if pages.has_metrics => match pages.page().await {
            Ok(page) => response(StatusCode::OK, text::CONTENT_TYPE, page),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
        },
        "/livez" => status(pages.health.live().await),
        "/readyz" => status(pages.health.ready()),
        _ if pages.has_metrics => plain(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz"),
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /livez and /readyz; metricsExporterType is not PROM",
        ),
    }
}

fn status(result: Result<(), String>) -> Response<Page> {
    match result {
        Ok(()) => plain(StatusCode::OK, "ok"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Page> {
    response(status, "text/plain; charset=utf-8", Bytes::from(format!("{text}\n")))
}

fn response(status: StatusCode, content_type: &'static str, page: Bytes) -> Response<Page> {
    let mut response = Response::new(Page(page));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The last page of metrics and when it was begun.
struct Pages {
    has_metrics: bool,
    health: Arc<Health>,
    last: RefCell<Option<(Instant, Bytes)>>,
    /// Whoever makes a page has it.
    turn: tokio::sync::Mutex<()>,
}

impl Pages {
    fn new(has_metrics: bool, health: Arc<Health>) -> Pages {
        Pages {
            has_metrics,
            health,
            last: RefCell::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    async fn page(&self) -> Result<Bytes, String> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some((began, page)) = &*self.last.borrow()
            && *began >= asked
        {
            return Ok(page.clone());
        }
        let broker = self.health.broker().ok_or("the store is not open yet")?;
        let began = Instant::now();
        let page = spawn_blocking(move || Metrics::page(&broker)).await;
        let page = Bytes::from(page.map_err(|error| format!("the metrics cannot be gathered: {error}"))?);
        self.last.replace(Some((began, page.clone())));
        Ok(page)
    }
}

/// A body in one piece.
struct Page(Bytes);

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let page = std::mem::take(&mut self.0);
        Poll::Ready((!page.is_empty()).then(|| Ok(Frame::data(page))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
