//! What the cloud refuses, as its own REST interface would say it: a stand-in answers, since an emulator refuses nobody.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use ductape_core::error::Retry;
use ductape_core::{ConsumerOptions, ErrorKind};
use rig::{PATIENCE, connect, orders};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request so.
async fn stand_in(status: u16, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, status, body.clone()));
        }
    });
    address
}

async fn answer(connection: TcpStream, status: u16, body: String) {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while connection.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if line == "\r\n" {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all((head + &body).as_bytes()).await;
            return;
        }
        line.clear();
    }
}

/// An error as Google writes it.
fn refusal(code: u16, status: &str, message: &str, reason: Option<&str>) -> String {
    let info = |reason| json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com" });
    let details: Vec<_> = reason.map(info).into_iter().collect();
    json!({ "error": { "code": code, "status": status, "message": message, "details": details } }).to_string()
}

#[tokio::test]
async fn each_refusal_has_its_own_kind_and_help() {
    for (code, status, message, reason, wanted) in [
        (401, "UNAUTHENTICATED", "invalid authentication credentials", None, ErrorKind::AuthenticationFailed),
        (
            403,
            "PERMISSION_DENIED",
            "project 'p' not found or deleted",
            Some("CONSUMER_INVALID"),
            ErrorKind::ConfigInvalid,
        ),
        (
            403,
            "PERMISSION_DENIED",
            "API has not been used",
            Some("SERVICE_DISABLED"),
            ErrorKind::ConfigInvalid,
        ),
        (
            404,
            "NOT_FOUND",
            "Requested project not found or user does not have access to it",
            None,
            ErrorKind::ConfigInvalid,
        ),
        (429, "RESOURCE_EXHAUSTED", "quota exceeded", None, ErrorKind::Throttled),
        (503, "UNAVAILABLE", "try later", None, ErrorKind::ConnectionLost),
    ] {
        let address = stand_in(code, refusal(code, status, message, reason)).await;
        let error = connect(&address, PATIENCE).await.err().unwrap();
        assert_eq!(error.kind(), wanted, "{error}");
        assert!(error.help().is_some() && error.message().contains(message), "{error}");
        assert_eq!(error.context("project"), Some(rig::PROJECT));
    }
}

#[tokio::test]
async fn throttling_says_how_long_to_wait() {
    let address = stand_in(429, refusal(429, "RESOURCE_EXHAUSTED", "quota exceeded", None)).await;
    let error = connect(&address, PATIENCE).await.err().unwrap();
    assert!(matches!(error.retry(), Retry::After(_)), "{error}");
}

#[tokio::test]
async fn who_may_not_list_topics_connects_and_is_told_what_he_may_not_do() {
    let denied = refusal(403, "PERMISSION_DENIED", "User not authorized", Some("IAM_PERMISSION_DENIED"));
    let broker = connect(&stand_in(403, denied).await, PATIENCE).await.unwrap();
    let error = broker.ensure(&orders(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.help().unwrap().contains("roles/pubsub"), "{error}");
    assert_eq!(error.context("destination"), Some("orders"));
}

#[tokio::test]
async fn a_missing_topic_is_told_from_a_missing_project() {
    let missing = refusal(404, "NOT_FOUND", "Resource not found (resource=orders)", None);
    let address = stand_in(404, missing).await;
    let error = connect(&address, PATIENCE).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DestinationNotFound, "{error}");
}

#[tokio::test]
async fn a_lease_that_the_service_would_end_before_it_is_renewed_is_refused() {
    let denied = refusal(403, "PERMISSION_DENIED", "User not authorized", Some("IAM_PERMISSION_DENIED"));
    let broker = connect(&stand_in(403, denied).await, PATIENCE).await.unwrap();
    let open = async |lease| {
        let options = ConsumerOptions { lease, ..ConsumerOptions::new("shop") };
        broker.consumer(&orders(false), &options).await.err().unwrap()
    };
    let error = open(Duration::from_secs(3600)).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.message().contains("600s") && error.help().unwrap().contains("10 min or less"), "{error}");
    let asked = open(Duration::from_secs(600)).await;
    assert_eq!(asked.kind(), ErrorKind::PermissionDenied, "this one asks the server: {asked}");
}
