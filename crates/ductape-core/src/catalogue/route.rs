//! From an event and an env to a provider, its config and a destination; and the rule that two topics never
//! share one.

use super::destination::{dead_letters, default_name, fill};
use super::model::{BrokerEntry, Catalogue, EnvEntry, TopicEntry};
use crate::config::{ProviderConfig, ProviderKind};
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::tag::{Event, Tag, nearest_help};
use std::collections::HashMap;
use std::sync::Arc;

/// Where an event leads in one env.
#[derive(Clone, Debug)]
pub struct Route {
    /// The product.
    pub product: Tag,
    /// The env.
    pub env: Tag,
    /// The event.
    pub event: Event,
    /// The provider's config, its references not replaced.
    pub config: ProviderConfig,
    /// The provider's place for the topic.
    pub destination: Destination,
    /// The topic's entry.
    pub topic: Arc<TopicEntry>,
}

impl Route {
    /// Whether another route leads to the same place, by the same rules.
    pub(crate) fn leads_as(&self, other: &Route) -> bool {
        self.config == other.config && self.destination == other.destination && self.topic == other.topic
    }

    /// Where the topic's dead letters go.
    pub fn dead_letters(&self) -> Destination {
        dead_letters(self.config.kind(), &self.destination)
    }
}

impl Catalogue {
    /// Where an event leads in an env.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `TOPIC_NOT_FOUND`, `BROKER_ENV_NOT_FOUND`, each with the tags that exist and the nearest.
    pub fn route(&self, event: &Event, env: &str) -> Result<Route> {
        let broker = self.broker(event.broker().as_str())?;
        let topic = self.topic(event)?;
        let entry = broker.env(env)?;
        Ok(Route {
            product: self.product.clone(),
            env: entry.slug.clone(),
            event: event.clone(),
            config: entry.config.clone(),
            destination: self.destination(entry, topic, event),
            topic: Arc::new(topic.clone()),
        })
    }

    /// A broker by its tag.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`.
    pub fn broker(&self, tag: &str) -> Result<&BrokerEntry> {
        self.brokers.iter().find(|broker| broker.tag.as_str() == tag).ok_or_else(|| {
            let tags = self.brokers.iter().map(|broker| broker.tag.as_str());
            not_found(ErrorKind::BrokerNotFound, "broker", "brokers", tag, tags)
                .with_context("product", &self.product)
        })
    }

    /// A topic by its event.
    ///
    /// # Errors
    /// `BROKER_NOT_FOUND`, `TOPIC_NOT_FOUND`.
    pub fn topic(&self, event: &Event) -> Result<&TopicEntry> {
        let broker = self.broker(event.broker().as_str())?;
        let events = broker.events();
        let found = events.iter().find(|(other, _)| other == event).map(|(_, topic)| *topic);
        found.ok_or_else(|| {
            let tags = events.iter().map(|(event, _)| event.as_str());
            not_found(ErrorKind::TopicNotFound, "topic", "topics", event.as_str(), tags)
                .with_context("broker", event.broker())
        })
    }

    /// Holds a product's tag against the catalogue's.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub fn check_product(&self, product: &str) -> Result<()> {
        if product == self.product.as_str() {
            return Ok(());
        }
        let tags = [self.product.as_str()];
        Err(not_found(ErrorKind::ProductNotFound, "product", "products", product, tags))
    }

    /// Checks everything that holds across entries: tags are unique, topics belong to their broker, configs are
    /// sound, and no two topics share a destination.
    ///
    /// # Errors
    /// `CATALOGUE_INVALID`, `TAG_INVALID`, `CONFIG_INVALID`, `DESTINATION_CONFLICT`.
    pub fn check(&self) -> Result<()> {
        unique("broker", self.brokers.iter().map(|broker| broker.tag.as_str()))?;
        unique("session", self.sessions.iter().map(|session| session.tag.as_str()))?;
        for broker in &self.brokers {
            broker.check().map_err(|error| error.with_context("broker", &broker.tag))?;
        }
        self.check_destinations()
    }

    fn check_destinations(&self) -> Result<()> {
        let mut taken: HashMap<(String, String), (Event, &EnvEntry)> = HashMap::new();
        for broker in &self.brokers {
            for entry in &broker.envs {
                for (event, topic) in broker.events() {
                    let destination = self.destination(entry, topic, &event);
                    let place = (place_of(entry), destination.name.to_string());
                    if let Some((other, _)) = taken.get(&place) {
                        return Err(conflict(other, &event, entry, &destination.name));
                    }
                    taken.insert(place, (event, entry));
                }
            }
        }
        Ok(())
    }

    fn destination(&self, entry: &EnvEntry, topic: &TopicEntry, event: &Event) -> Destination {
        let kind = entry.kind;
        let configured = || config_name(&entry.config).map(|template| fill(kind, template, event));
        let name = own_name(entry, topic)
            .or_else(configured)
            .unwrap_or_else(|| default_name(kind, event, topic.ordered));
        let group = match config_group(&entry.config) {
            Some(template) => fill(kind, template, event),
            None => self.product.to_string(),
        };
        Destination {
            routing_key: (kind == ProviderKind::RabbitMq).then(|| name.as_str().into()),
            name: name.into(),
            default_group: group.into(),
            ordered: topic.ordered,
            provision: entry.provision,
        }
    }
}

impl BrokerEntry {
    /// The entry of an env.
    ///
    /// # Errors
    /// `BROKER_ENV_NOT_FOUND`.
    pub fn env(&self, slug: &str) -> Result<&EnvEntry> {
        self.envs.iter().find(|entry| entry.slug.as_str() == slug).ok_or_else(|| {
            let slugs = self.envs.iter().map(|entry| entry.slug.as_str());
            not_found(ErrorKind::BrokerEnvNotFound, "env", "envs", slug, slugs)
                .with_context("broker", &self.tag)
        })
    }

    /// Its topics with their events. A topic whose tag is none is left out; [`Catalogue::check`] refuses it.
    pub fn events(&self) -> Vec<(Event, &TopicEntry)> {
        let event = |topic| TopicEntry::event(topic, &self.tag).ok().map(|event| (event, topic));
        self.topics.iter().filter_map(event).collect()
    }

    fn check(&self) -> Result<()> {
        unique("env", self.envs.iter().map(|entry| entry.slug.as_str()))?;
        for entry in &self.envs {
            entry.config.check().map_err(|error| error.with_context("env", &entry.slug))?;
        }
        for topic in &self.topics {
            topic.event(&self.tag)?;
            if let Some(other) = topic.message_broker_tag.as_ref().filter(|tag| **tag != self.tag) {
                return Err(Error::new(
                    ErrorKind::CatalogueInvalid,
                    format!("the topic `{}` says that it belongs to `{other}`", topic.tag),
                )
                .with_help("move the topic to that broker, or mend its `messageBrokerTag`"));
            }
            topic.rule().map_err(|error| error.with_context("topic", &topic.tag))?;
        }
        unique("topic", self.events().iter().map(|(event, _)| event.as_str()))
    }
}

/// The name that a topic's own entry gives it in an env.
fn own_name(entry: &EnvEntry, topic: &TopicEntry) -> Option<String> {
    let named = topic.destinations.iter().find(|named| named.env_slug == entry.slug);
    let queue = topic.queue_url.iter().find(|queue| queue.env_slug == entry.slug);
    let queue = queue.filter(|_| entry.kind == ProviderKind::AwsSqs);
    named.map(|named| named.name.clone()).or_else(|| queue.map(|queue| queue.url.clone()))
}

/// What a config calls its topics.
fn config_name(config: &ProviderConfig) -> Option<&str> {
    match config {
        ProviderConfig::Kafka(config) => config.topic.as_deref(),
        ProviderConfig::RabbitMq(config) => config.routing_key.as_deref(),
        ProviderConfig::GooglePubSub(config) => config.topic_name.as_deref(),
        _ => None,
    }
}

/// What a config calls its default group.
fn config_group(config: &ProviderConfig) -> Option<&str> {
    match config {
        ProviderConfig::Kafka(config) => config.group_id.as_deref(),
        ProviderConfig::RabbitMq(config) => config.queue.as_deref(),
        ProviderConfig::GooglePubSub(config) => config.subscription_name.as_deref(),
        _ => None,
    }
}

/// What two entries of one env have in common where their destinations lie in one place.
fn place_of(entry: &EnvEntry) -> String {
    let server = match &entry.config {
        ProviderConfig::Memory(config) => config.name.clone(),
        ProviderConfig::Sqlite(config) => config.path.display().to_string(),
        ProviderConfig::Kafka(config) => config.brokers.join(","),
        ProviderConfig::RabbitMq(config) => format!(
            "{:?}:{:?}/{:?}/{:?}/{}",
            config.host,
            config.port,
            config.vhost,
            config.exchange,
            config.url.as_ref().map_or("", |url| url.expose())
        ),
        ProviderConfig::Redis(config) => format!(
            "{:?}:{:?}/{:?}/{}",
            config.host,
            config.port,
            config.db,
            config.url.as_ref().map_or("", |url| url.expose())
        ),
        ProviderConfig::AwsSqs(config) => format!("{}/{:?}", config.region, config.endpoint),
        ProviderConfig::GooglePubSub(config) => format!("{}/{:?}", config.project_id, config.endpoint),
    };
    format!("{}/{}/{server}", entry.slug, entry.kind)
}

fn conflict(first: &Event, second: &Event, entry: &EnvEntry, name: &str) -> Error {
    let fix = match entry.kind {
        ProviderKind::Kafka => "write `topic: \"….{topic}\"` in the config",
        ProviderKind::RabbitMq => "write `routingKey: \"….{topic}\"` in the config",
        ProviderKind::GooglePubSub => "write `topicName: \"….{topic}\"` in the config",
        _ => "let the name follow from the tags",
    };
    Error::new(
        ErrorKind::DestinationConflict,
        format!(
            "the topics `{first}` and `{second}` would share the destination `{name}` in the env `{}`",
            entry.slug
        ),
    )
    .with_context("provider", entry.kind)
    .with_help(format!(
        "{fix}, or give one a destination of its own: `destinations: [{{ env_slug: {}, name: … }}]`",
        entry.slug
    ))
}

fn not_found<'t>(
    kind: ErrorKind,
    one: &str,
    many: &str,
    name: &str,
    there: impl IntoIterator<Item = &'t str>,
) -> Error {
    Error::new(kind, format!("there is no {one} `{}`", name.escape_debug()))
        .with_help(nearest_help(many, name, there))
}

fn unique<'t>(what: &str, tags: impl Iterator<Item = &'t str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for tag in tags {
        if !seen.insert(tag) {
            return Err(Error::new(ErrorKind::CatalogueInvalid, format!("the {what} `{tag}` stands twice"))
                .with_help("take one away, or give it another tag"));
        }
    }
    Ok(())
}
