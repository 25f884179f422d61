//! Creating brokers and topics, updating and fetching them.

use crate::fixture::{Format, Service};
use ductape::catalogue::{EnvEntry, NewBroker, NewTopic, TopicPatch};
use ductape::config::{KafkaConfig, PubSubConfig, RabbitMqConfig, RedisConfig, SaslMechanism, SqsConfig};
use ductape::{Event, ProviderConfig, ProviderKind};
use serde_json::json;

/// The password of every example that has one.
const PASSWORD: &str = "prod-password";

fn kafka(config: &ProviderConfig) -> &KafkaConfig {
    match config {
        ProviderConfig::Kafka(config) => config,
        other => panic!("not KAFKA: {other:?}"),
    }
}

fn redis(config: &ProviderConfig) -> &RedisConfig {
    match config {
        ProviderConfig::Redis(config) => config,
        other => panic!("not REDIS: {other:?}"),
    }
}

#[tokio::test]
async fn a_broker_is_created_with_its_envs_and_kept() {
    for format in Format::BOTH {
        let service = Service::new(format, "").await;
        service.ductape.broker().create(format.read("broker-create")).await.unwrap();

        let broker = service.reopened().await.broker().fetch("order-events").await.unwrap();
        assert_eq!((broker.name.as_str(), broker.tag.as_str()), ("Order Events", "order-events"));
        assert_eq!(broker.description.as_deref(), Some("Handles all order-related messages"));
        let envs: Vec<_> = broker.envs.iter().map(|env| (env.slug.as_str(), env.kind)).collect();
        assert_eq!(envs, [("prd", ProviderKind::Kafka), ("dev", ProviderKind::Redis)], "{format:?}");

        let prd = kafka(&broker.envs[0].config);
        assert_eq!(prd.brokers, ["kafka-prod.example.com:9092"]);
        assert_eq!(
            (prd.client_id.as_deref(), prd.group_id.as_deref()),
            (Some("order-service"), Some("order-consumers"))
        );
        assert_eq!((prd.topic.as_deref(), prd.ssl), (Some("orders"), true));
        let sasl = prd.sasl.as_ref().unwrap();
        assert_eq!((sasl.mechanism, sasl.username.as_str()), (SaslMechanism::ScramSha256, "prod-user"));
        assert_eq!(sasl.password.expose(), PASSWORD);
        let dev = redis(&broker.envs[1].config);
        assert_eq!((dev.host.as_deref(), dev.port), (Some("localhost"), Some(6379)));
    }
}

#[test]
fn every_providers_config_is_read_field_by_field() {
    for format in Format::BOTH {
        let envs: Vec<EnvEntry> = format.read("provider-configs");
        let [kafka_env, rabbitmq, redis_env, sqs, pubsub] = &envs[..] else {
            panic!("five examples: {envs:?}")
        };
        let sasl = kafka(&kafka_env.config).sasl.as_ref().unwrap();
        assert_eq!(kafka(&kafka_env.config).brokers, ["broker1:9092", "broker2:9092"]);
        assert_eq!(sasl.mechanism, SaslMechanism::Plain);
        assert_eq!(redis(&redis_env.config).password.as_ref().unwrap().expose(), PASSWORD);
        let ProviderConfig::RabbitMq(RabbitMqConfig {
            host,
            port,
            username,
            password,
            queue,
            routing_key,
            ..
        }) = &rabbitmq.config
        else {
            panic!("not RABBITMQ: {rabbitmq:?}")
        };
        assert_eq!((host.as_deref(), *port), (Some("rabbitmq.example.com"), Some(5672)));
        assert_eq!((username.as_deref(), password.as_ref().unwrap().expose()), (Some("prod-user"), PASSWORD));
        assert_eq!((queue.as_deref(), routing_key.as_deref()), (Some("orders"), Some("orders.new")));
        let ProviderConfig::AwsSqs(SqsConfig { region, access_key_id, secret_access_key, .. }) = &sqs.config
        else {
            panic!("not AWS_SQS: {sqs:?}")
        };
        assert_eq!((region.as_str(), access_key_id.as_deref()), ("us-east-1", Some("prod-user")));
        assert_eq!(secret_access_key.as_ref().unwrap().expose(), PASSWORD);
        let ProviderConfig::GooglePubSub(PubSubConfig {
            project_id,
            topic_name,
            subscription_name,
            key_filename,
            ..
        }) = &pubsub.config
        else {
            panic!("not GOOGLE_PUBSUB: {pubsub:?}")
        };
        assert_eq!((project_id.as_str(), topic_name.as_deref()), ("prod-project", Some("orders")));
        assert_eq!(subscription_name.as_deref(), Some("order-consumers"));
        assert_eq!(key_filename.as_deref(), Some("keys/prod.json".as_ref()));
        for env in &envs {
            env.config.check().unwrap();
            let shown = format!("{env:?}");
            assert!(!shown.contains(PASSWORD), "{shown}");
        }
    }
}

#[test]
fn what_the_examples_mark_as_optional_may_be_left_out() {
    for (kind, config) in [
        ("KAFKA", json!({ "brokers": ["b:9092"], "clientId": "c", "groupId": "g", "topic": "t" })),
        ("REDIS", json!({ "host": "h", "port": 6379 })),
        ("GOOGLE_PUBSUB", json!({ "projectId": "p", "topicName": "t", "keyFilename": "k.json" })),
    ] {
        let env = json!({ "slug": "prd", "type": kind, "config": config });
        let env: EnvEntry = serde_json::from_value(env).unwrap();
        env.config.check().unwrap();
    }
    for (written, mechanism) in [
        ("plain", SaslMechanism::Plain),
        ("scram-sha-256", SaslMechanism::ScramSha256),
        ("scram-sha-512", SaslMechanism::ScramSha512),
    ] {
        assert_eq!(serde_json::from_value::<SaslMechanism>(json!(written)).unwrap(), mechanism);
    }
}

#[tokio::test]
async fn a_topic_is_created_updated_and_fetched() {
    for format in Format::BOTH {
        let service = Service::new(format, "").await;
        let (broker, topic) = (service.ductape.broker(), service.ductape.broker().topic());
        broker.create(format.read("broker-create")).await.unwrap();
        topic.create(format.read("topic-create")).await.unwrap();

        let created = topic.fetch("order-events:new-orders").await.unwrap();
        assert_eq!(created.name, "New Orders");
        assert_eq!(created.description.as_deref(), Some("Topic for new order notifications"));
        assert_eq!(created.sample.unwrap()["createdAt"], "2024-01-15T10:30:00Z");

        let patch: TopicPatch = format.read("topic-update");
        topic.update("order-events:new-orders", patch).await.unwrap();
        let reopened = service.reopened().await;
        let updated = reopened.broker().topic().fetch("order-events:new-orders").await.unwrap();
        assert_eq!(updated.name, "New Orders", "what a patch does not name stays");
        assert_eq!(updated.description.as_deref(), Some("Updated description"));
        let sample =
            json!({ "orderId": "12345", "customerId": "cust_789", "total": 99.99, "status": "pending" });
        assert_eq!(updated.sample.as_ref(), Some(&sample));
        assert_eq!(reopened.broker().topic().fetch_all("order-events").await.unwrap(), [updated]);
    }
}

#[tokio::test]
async fn a_topic_of_sqs_has_a_queue_in_each_env() {
    for format in Format::BOTH {
        let service = Service::new(format, "").await;
        let envs: Vec<EnvEntry> = format.read("provider-configs");
        let sqs = envs.iter().find(|env| env.kind == ProviderKind::AwsSqs).unwrap();
        let env = |slug: &str| EnvEntry { slug: slug.parse().unwrap(), ..sqs.clone() };
        let mut broker: NewBroker = format.read("broker-create");
        (broker.tag, broker.envs) = ("sqs-broker".parse().unwrap(), vec![env("prd"), env("dev")]);
        service.ductape.broker().create(broker).await.unwrap();
        let topic: NewTopic = format.read("topic-create-sqs");
        service.ductape.broker().topic().create(topic).await.unwrap();

        for (env, url) in [
            ("prd", "https://sqs.us-east-1.amazonaws.com/123/orders-prd"),
            ("dev", "https://sqs.us-east-1.amazonaws.com/123/orders-dev"),
        ] {
            let route = service.ductape.route(None, "sqs-broker:new-orders", Some(env)).await.unwrap();
            assert_eq!(&*route.destination.name, url);
        }
    }
}

#[test]
fn an_event_is_the_brokers_tag_and_the_topics() {
    for (text, broker, topic) in [
        ("order-events:new-orders", "order-events", "new-orders"),
        ("notifications:user-alerts", "notifications", "user-alerts"),
    ] {
        let event: Event = text.parse().unwrap();
        assert_eq!((event.broker().as_str(), event.topic()), (broker, topic));
    }
}
