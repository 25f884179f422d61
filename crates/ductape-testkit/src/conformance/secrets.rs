//! Nothing shows a secret: those of the subject's config, and those of a session.

use super::capture::Listener;
use super::fixture::{Fixture, message};
use super::outcome::{Outcome, Wanted, check, cut, skip};
use super::property::{Property, Section};
use super::service::{EVENT, FORGED, SECRETS, SESSION, Service, TOKEN, quick};
use crate::fault::{Calls, Fault, Faults, FaultyProvider, Operation, Rule};
use ductape_core::broker::Provision;
use ductape_core::client::{NewMessage, Publish};
use ductape_core::{Delivery, Destination, Error, ErrorKind, Failure, Settlement, Verdict};
use std::fmt::Debug;
use std::sync::Arc;

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Secrets, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("nothing that can be shown by Debug shows a secret", |f| Box::pin(debug_shows_none(f)))
        .without_keeping(),
    property("no error shows a secret", |f| Box::pin(errors_show_none(f))).without_keeping(),
    property("no log shows a secret", |f| Box::pin(logs_show_none(f))),
    property("a session's token stays behind when its message travels", |f| Box::pin(token_stays(f)))
        .without_keeping(),
];

/// What must not be seen.
fn secrets(f: &Fixture) -> Vec<String> {
    let own = f.subject.secrets.iter().cloned();
    own.chain(SECRETS.map(str::to_owned)).filter(|secret| !secret.is_empty()).collect()
}

/// None of the secrets stands in this text; a fault says where, and not which.
fn clean(f: &Fixture, place: &str, text: &str) -> Outcome {
    let mut shown = text.to_owned();
    for secret in secrets(f) {
        shown = shown.replace(&secret, "[a secret]");
    }
    check(shown == text, format!("no secret in {place}"), || cut(&shown))
}

fn clean_debug(f: &Fixture, place: &str, value: &impl Debug) -> Outcome {
    clean(f, place, &format!("{value:?}"))?;
    clean(f, place, &format!("{value:#?}"))
}

async fn debug_shows_none(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    clean_debug(&f, "the config", &f.target.config)?;
    clean_debug(&f, "the options of a connection", &f.target.options)?;
    let catalogue = f.within("the catalogue", service.client.catalogue()).await?;
    clean_debug(&f, "the catalogue", &catalogue)?;
    let message = NewMessage::raw("x").session(SESSION, TOKEN);
    clean_debug(&f, "a message to be published", &message)?;
    clean_debug(&f, "a publish", &Publish::new(EVENT).payload("x").session(SESSION, TOKEN))?;
    let subscription = service.subscribe(quick(), |_: Delivery| async {}).await?;
    clean_debug(&f, "a publisher", &service.publisher().await?)?;
    clean_debug(&f, "dead letters", &service.letters().await?)?;
    clean_debug(&f, "a subscription", &subscription)?;
    clean_debug(&f, "the client", &service.client)?;
    service.stop(subscription).await
}

/// The errors that a service comes to see, provoked one by one.
async fn provoke(f: &Fixture) -> Outcome<Vec<Error>> {
    let service = Service::open(f).await?;
    let publisher = service.publisher().await?;
    let mut errors = Vec::new();
    for (tag, token) in [(SESSION, FORGED), (SESSION, ""), ("no-session", TOKEN)] {
        errors.extend(publisher.publish(NewMessage::raw("x").session(tag, token)).await.err());
    }
    // As one who mistakes the one for the other.
    errors.extend(publisher.publish(NewMessage::raw("x").session(TOKEN, SESSION)).await.err());
    let large = vec![b'x'; f.capabilities().max_message_bytes + 1];
    errors.extend(publisher.publish(NewMessage::raw(large)).await.err());
    let missing = Destination { provision: Provision::Verify, ..f.fresh("missing") };
    errors.extend(f.broker.ensure(&missing).await.err());
    errors.extend(f.broker.inspect(&missing).await.err());
    errors.extend(f.broker.delete_group(&f.destination, "no-such-group").await.err());
    for (config, _) in &f.subject.refused {
        let connecting = f.target.provider.connect(config, &f.target.options);
        errors.extend(
            tokio::time::timeout(f.subject.patience, connecting).await.into_iter().filter_map(Result::err),
        );
    }
    errors.extend(provoke_by_closing(f).await?);
    Ok(errors)
}

async fn provoke_by_closing(f: &Fixture) -> Outcome<Vec<Error>> {
    let f = f.reconnected().await?;
    let publisher = f.within("a publisher is opened", f.broker.publisher(&f.destination)).await?;
    let member = f.member().await?;
    f.publish(vec![message("held")]).await?;
    let token = member.take_one().await?.token;
    member.close().await?;
    let settled = member.consumer.settle(vec![Settlement { token, verdict: Verdict::Ack }]).await;
    f.within("the connection closes", f.broker.close()).await?;
    let mut errors: Vec<_> = settled.into_iter().filter_map(Result::err).collect();
    errors.extend(member.consumer.receive(1, f.subject.quiet).await.err());
    errors.extend(publisher.publish(vec![message("late")]).await.into_iter().filter_map(Result::err));
    errors.extend(f.broker.ping().await.err());
    Ok(errors)
}

async fn errors_show_none(f: Fixture) -> Outcome {
    let errors = provoke(&f).await?;
    let kinds: Vec<_> = errors.iter().map(Error::kind).collect();
    for kind in [ErrorKind::SessionInvalid, ErrorKind::MessageTooLarge, ErrorKind::Closed] {
        check(kinds.contains(&kind), format!("an error of the kind {kind}"), || cut(&kinds))?;
    }
    for error in &errors {
        clean(&f, "an error", &error.to_string())?;
        clean_debug(&f, "the Debug of an error", error)?;
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            clean(&f, "the source of an error", &format!("{cause} {cause:?}"))?;
            source = cause.source();
        }
    }
    Ok(())
}

async fn logs_show_none(f: Fixture) -> Outcome {
    let Some(listener) = Listener::start(secrets(&f)) else {
        return skip("another subscriber of `tracing` has this process's logs");
    };
    provoke(&f).await?;
    let faults = Faults::new();
    let faulty = FaultyProvider::over(Arc::clone(&f.target.provider), faults.clone());
    let service = Service::open_on(&f, Arc::new(faulty)).await?;
    // A worker that loses its consumer, retries and buries says much of it in its log.
    faults.add(Rule::new(Operation::Receive, Fault::LoseConnection).calls(Calls::Nth(2)));
    let refuse = |_: Delivery| async { Err(Failure::retry("no")) };
    let subscription = service.subscribe(quick(), refuse).await?;
    service.publish((0..3).map(|n| NewMessage::raw(format!("m-{n}")).session(SESSION, TOKEN))).await?;
    service.wait_for_letters(3).await?;
    service.stop(subscription).await?;
    f.within("the client closes", service.client.close()).await?;
    check(listener.records() > 0, "a log", || "no record".into())?;
    let found = listener.found();
    found.iter().try_for_each(|record| clean(&f, "a log", record))
}

async fn token_stays(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let member = service.f.member().await?;
    service.publish([NewMessage::raw("x").session(SESSION, TOKEN)]).await?;
    let got = member.take_and_ack(1).await?.pop().wanted("a delivery")?;
    let session = got.message.session().map(|session| (&*session.tag, &*session.subject));
    super::outcome::same("the session that travels", &Some((SESSION, "user-42")), &session)?;
    clean_debug(&f, "the message that travels", &got.message)
}
