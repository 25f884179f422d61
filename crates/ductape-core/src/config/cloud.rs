//! The configs of the clouds' own brokers.

use super::{Fault, not_empty};
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `type: AWS_SQS`. Without keys the standard chain of credentials is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqsConfig {
    /// The region, such as `us-east-1`. A queue's URL must be of the same.
    pub region: String,
    /// The access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// The token of temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// A profile of the shared credentials file, instead of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Where to connect instead of the cloud: an emulator's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// `type: GOOGLE_PUBSUB`. Without a key file the application default credentials are asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PubSubConfig {
    /// The project.
    pub project_id: String,
    /// The Pub/Sub topic: literally, or with `{broker}` and `{topic}`. Default `{broker}.{topic}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// The subscription of the default group: literally, or with `{broker}` and `{topic}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_name: Option<String>,
    /// A service account's key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_filename: Option<PathBuf>,
    /// Where to connect instead of the cloud: an emulator's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether acknowledgements are confirmed (exactly-once delivery). Default false.
    #[serde(default)]
    pub exactly_once: bool,
}

impl SqsConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        not_empty("region", Some(&self.region))?;
        not_empty("accessKeyId", self.access_key_id.as_deref())?;
        not_empty("profile", self.profile.as_deref())?;
        if let Some(endpoint) = &self.endpoint
            && !["http://", "https://", "${"].iter().any(|start| endpoint.starts_with(start))
        {
            return Err(Fault::new("endpoint", format!("holds `{endpoint}`; write `https://host:port`")));
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => Err(Fault::new("secretAccessKey", "is missing beside `accessKeyId`")),
            (None, Some(_)) => Err(Fault::new("accessKeyId", "is missing beside `secretAccessKey`")),
            (Some(_), Some(_)) if self.profile.is_some() => {
                Err(Fault::new("profile", "and keys exclude each other"))
            }
            (None, None) if self.session_token.is_some() => {
                Err(Fault::new("sessionToken", "needs `accessKeyId` and `secretAccessKey`"))
            }
            _ => Ok(()),
        }
    }
}

impl PubSubConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        not_empty("projectId", Some(&self.project_id))?;
        not_empty("topicName", self.topic_name.as_deref())?;
        not_empty("subscriptionName", self.subscription_name.as_deref())
    }
}
