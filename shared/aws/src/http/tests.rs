//! What becomes of single calls.

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header},
    response::Redirect,
    routing::{any, put},
};
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::*;

async fn served(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn direct() -> reqwest::Client {
    client(CONNECT).no_proxy().build().unwrap()
}

async fn answered(request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    call(&direct(), request).await
}

#[tokio::test]
async fn a_call_comes_as_it_was_signed() {
    let echo = |uri: Uri, headers: HeaderMap, body: String| async move {
        assert!(!headers.contains_key(header::ACCEPT_ENCODING));
        let length = headers[header::CONTENT_LENGTH].to_str().unwrap();
        let signed = headers["x-signed"].to_str().unwrap();
        format!("{body} {length} {signed} {uri}")
    };
    let address = served(Router::new().route("/a%2Bb/{rest}", put(echo))).await;
    let mut request = HttpRequest::new(SdkBody::from("text"));
    request.set_method("PUT").unwrap();
    request
        .set_uri(format!("{address}/a%2Bb/c%20d?x=%2F&y="))
        .unwrap();
    request.headers_mut().insert("x-signed", "yes");
    let answer = answered(request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let body = reqwest::Body::wrap(answer.into_body());
    let body = http_body_util::BodyExt::collect(body).await.unwrap();
    assert_eq!(body.to_bytes(), "text 4 yes /a%2Bb/c%20d?x=%2F&y=");
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let elsewhere = any(|| async { Redirect::temporary("/elsewhere") });
    let router = Router::new().route("/", elsewhere);
    let address = served(router.route("/elsewhere", any(|| async { "here" }))).await;
    let answer = answered(HttpRequest::get(address).unwrap()).await.unwrap();
    assert_eq!(
        answer.status().as_u16(),
        StatusCode::TEMPORARY_REDIRECT.as_u16()
    );
}

/// The SDK tries again only what is of one of two kinds.
#[tokio::test]
async fn failures_are_of_the_kinds_that_the_sdk_knows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failed = answered(HttpRequest::get(address).unwrap())
        .await
        .unwrap_err();
    assert!(failed.is_io(), "{failed:?}");
    let failed = answered(HttpRequest::get("/nowhere").unwrap()).await;
    assert!(failed.unwrap_err().is_user());
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_when_the_sdk_has_no_patience_left() {
    let never = any(std::future::pending::<StatusCode>);
    let address = served(Router::new().route("/", never)).await;
    let connector = Connector {
        http: direct(),
        patience: Some(Duration::from_millis(1)),
    };
    let late = connector.call(HttpRequest::get(address).unwrap()).await;
    assert!(late.unwrap_err().is_timeout());
}

/// Where a call through a proxy ends: what the proxy was asked first.
async fn asked(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = vec![0; 1024];
    let length = stream.read(&mut head).await.unwrap();
    String::from_utf8(head[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_is_encrypted_and_not_for_what_is_of_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://somebody:secret@{}", listener.local_addr().unwrap());
    let direct = NoProxy::from_string("direct.invalid");
    let through = proxy("HTTPS_PROXY", &address, direct).unwrap();
    let through = client(CONNECT).proxy(through).build().unwrap();
    let call = async |url: &str| call(&through, HttpRequest::get(url).unwrap()).await;
    let (asked, refused) = tokio::join!(asked(&listener), call("https://sqs.invalid/"));
    assert!(refused.is_err(), "it was not answered");
    let first = asked.lines().next();
    assert_eq!(first, Some("CONNECT sqs.invalid:443 HTTP/1.1"));
    assert!(asked.to_lowercase().contains("proxy-authorization: basic"));

    let here = served(Router::new().route("/", any(|| async { "here" }))).await;
    let answer = call(&here).await.unwrap();
    assert_eq!(answer.status().as_u16(), StatusCode::OK.as_u16());
    assert!(call("https://direct.invalid/").await.is_err());
    let nobody = listener.into_std().unwrap().accept().unwrap_err();
    assert_eq!(
        nobody.kind(),
        std::io::ErrorKind::WouldBlock,
        "no other call came"
    );
}

#[test]
fn what_is_no_proxy_is_named_without_its_password() {
    for address in [
        "http://somebody:secret@",
        "socks5://somebody:secret@proxy:1080",
    ] {
        let refused = proxy("https_proxy", address, None).unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with("https_proxy is not the address"), "{said}");
        assert!(!format!("{refused:?}{said}").contains("secret"));
    }
    for address in ["proxy:3128", "HTTP://proxy:3128", "https://proxy"] {
        assert!(proxy("https_proxy", address, None).is_ok(), "{address}");
    }
}
