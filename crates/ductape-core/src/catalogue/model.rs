//! The catalogue as data.

use crate::config::{
    KafkaConfig, MemoryConfig, ProviderConfig, ProviderKind, PubSubConfig, RabbitMqConfig, RedisConfig,
    SqliteConfig, SqsConfig,
};
use crate::destination::Provision;
use crate::error::{Error, Result};
use crate::sample::PayloadRule;
use crate::secret::Secret;
use crate::session::{SessionAlgorithm, SessionSpec};
use crate::tag::{Event, Tag};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::path::Path;

/// A product's brokers and sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Catalogue {
    /// The application that owns the brokers.
    pub product: Tag,
    /// Its brokers.
    #[serde(default)]
    pub brokers: Vec<BrokerEntry>,
    /// Its sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionEntry>,
}

/// A named group of topics, with a provider for each env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerEntry {
    /// For people.
    pub name: String,
    /// What events begin with.
    pub tag: Tag,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its provider in each env.
    #[serde(default)]
    pub envs: Vec<EnvEntry>,
    /// Its topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicEntry>,
}

/// A broker that is to be created; its topics come apart from it.
pub type NewBroker = BrokerEntry;

/// What carries a broker's messages in one env.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvEntry {
    /// The env.
    pub slug: Tag,
    /// The provider.
    #[serde(rename = "type")]
    pub kind: ProviderKind,
    /// Its config.
    pub config: ProviderConfig,
    /// What may be done where a destination is not there. Default `create`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub provision: Provision,
}

/// An env's entry before its config is read as its kind says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawEnv {
    slug: Tag,
    #[serde(rename = "type")]
    kind: ProviderKind,
    #[serde(default = "empty_object")]
    config: Value,
    #[serde(default)]
    provision: Provision,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl<'de> Deserialize<'de> for EnvEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawEnv { slug, kind, config, provision } = RawEnv::deserialize(deserializer)?;
        let config = ProviderConfig::read(kind, config).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { "config".to_owned() } else { format!("config.{path}") };
            serde::de::Error::custom(format!("{place}: {}", error.into_inner()))
        })?;
        Ok(EnvEntry { slug, kind, config, provision })
    }
}

/// The schema ties `type` and `config` together, so that an editor offers the right fields.
impl JsonSchema for EnvEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvEntry".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut entry = |kind: ProviderKind, config: schemars::Schema| {
            let provision = generator.subschema_for::<Provision>();
            schemars::json_schema!({
                "type": "object",
                "properties": {
                    "slug": { "type": "string" },
                    "type": { "const": kind.as_str() },
                    "config": config,
                    "provision": provision,
                },
                "required": ["slug", "type"],
                "additionalProperties": false,
            })
        };
        let kinds = [
            entry(ProviderKind::Memory, schemars::schema_for!(MemoryConfig)),
            entry(ProviderKind::Sqlite, schemars::schema_for!(SqliteConfig)),
            entry(ProviderKind::Kafka, schemars::schema_for!(KafkaConfig)),
            entry(ProviderKind::RabbitMq, schemars::schema_for!(RabbitMqConfig)),
            entry(ProviderKind::Redis, schemars::schema_for!(RedisConfig)),
            entry(ProviderKind::AwsSqs, schemars::schema_for!(SqsConfig)),
            entry(ProviderKind::GooglePubSub, schemars::schema_for!(PubSubConfig)),
        ];
        schemars::json_schema!({ "oneOf": kinds })
    }
}

/// A channel of a broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicEntry {
    /// For people.
    pub name: String,
    /// The broker that it belongs to; below a broker's own entry it goes without saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_broker_tag: Option<Tag>,
    /// What events end with; with or without its broker's tag in front.
    pub tag: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A message as it is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Value>,
    /// A JSON Schema that says more than the sample can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Whether a message that does not fit the sample or the schema is refused. Default `none`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation: Validation,
    /// Whether order by key holds while members of a group compete. Default false; MEMORY, SQLITE and KAFKA keep
    /// it in any case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ordered: bool,
    /// Its SQS queue in each env.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue_url: Vec<QueueUrl>,
    /// Its place in each env, where it is not to follow from the tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<NamedDestination>,
}

/// A topic that is to be created. Its broker is in `message_broker_tag`, or in front of its tag.
pub type NewTopic = TopicEntry;

/// A topic's SQS queue in one env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueUrl {
    /// The env.
    pub env_slug: Tag,
    /// The queue's URL.
    pub url: String,
}

/// A topic's place in one env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedDestination {
    /// The env.
    pub env_slug: Tag,
    /// The provider's name of it.
    pub name: String,
}

/// What becomes of a message that does not fit its topic's sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Validation {
    /// It is published: the sample is for people.
    #[default]
    None,
    /// It is refused at publish.
    Strict,
}

/// How the tokens of a session are verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionEntry {
    /// What publishers name.
    pub tag: Tag,
    /// How tokens are signed.
    pub algorithm: SessionAlgorithm,
    /// The secret that signs and verifies (HS256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The public key (RS256, ES256), as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The claim that says who it is. Default `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What `iss` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What `aud` must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How far clocks may be apart, such as `30s`. Default 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway: Option<String>,
}

/// What changes of a broker; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerPatch {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All its envs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envs: Option<Vec<EnvEntry>>,
}

/// What changes of a topic; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicPatch {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A message as it is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Value>,
    /// A JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Whether misfits are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// Whether order by key holds while members compete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// All its SQS queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_url: Option<Vec<QueueUrl>>,
    /// All its places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destinations: Option<Vec<NamedDestination>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TopicEntry {
    /// Its event below this broker.
    ///
    /// # Errors
    /// `TAG_INVALID`.
    pub fn event(&self, broker: &Tag) -> Result<Event> {
        Event::new(broker, &self.tag)
    }

    /// What its messages are held against under `validation: strict`: the schema, else the sample.
    ///
    /// # Errors
    /// `CATALOGUE_INVALID` where the schema is not one.
    pub fn rule(&self) -> Result<Option<PayloadRule>> {
        match (self.validation, &self.schema, &self.sample) {
            (Validation::None, _, _) | (Validation::Strict, None, None) => Ok(None),
            (Validation::Strict, Some(schema), _) => PayloadRule::from_schema(schema).map(Some),
            (Validation::Strict, None, Some(sample)) => Ok(Some(PayloadRule::from_sample(sample))),
        }
    }
}

impl SessionEntry {
    /// What a verifier is made from, with the references replaced by what they stand for now.
    ///
    /// # Errors
    /// `SECRET_MISSING`; `CONFIG_INVALID` where the key is missing or of the wrong kind.
    pub fn spec(&self, base_dir: &Path) -> Result<SessionSpec> {
        let place = |field: &str| format!("sessions.{}.{field}", self.tag);
        let key = match (self.algorithm, &self.secret, &self.public_key) {
            (SessionAlgorithm::Hs256, Some(secret), None) => {
                secret.resolve(base_dir, &place("secret"))?.expose().to_owned()
            }
            (SessionAlgorithm::Rs256 | SessionAlgorithm::Es256, None, Some(key)) => {
                crate::secret::resolve(key, base_dir, &place("publicKey"))?
            }
            _ => return Err(self.wrong_key()),
        };
        let mut spec = SessionSpec::new(self.tag.clone(), self.algorithm, key.into_bytes());
        if let Some(subject) = &self.subject {
            spec.subject.clone_from(subject);
        }
        spec.issuer.clone_from(&self.issuer);
        spec.audience.clone_from(&self.audience);
        if let Some(leeway) = &self.leeway {
            spec.leeway = crate::duration::parse(leeway)?;
        }
        Ok(spec)
    }

    fn wrong_key(&self) -> Error {
        Error::new(
            crate::ErrorKind::ConfigInvalid,
            format!("the session `{}` has not the key it needs", self.tag),
        )
        .with_help("give HS256 a `secret` and nothing else, RS256 and ES256 a `publicKey` and nothing else")
    }
}
