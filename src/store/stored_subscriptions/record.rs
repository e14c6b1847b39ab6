//! A stored subscription as state.
//!
//! ```text
//!   key     bytes of the registry's name 1 │ name │ the subscription's name
//!   value   mark 16, its last byte the version of the layout │ archive of `Record`
//! ```

use std::time::Duration;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize, rancor};

use crate::{
    BreakerPolicy, Condition, ConditionParts, DedupWindow, DeliveryMode, EventId, Key, Operand, OverLimit, Overflow,
    Priority, Rate, ReplayPolicy, RetryPolicy, RuleFilter, SubscriptionId, WhileOpen,
};

use super::{StoredSubscription, StoredSubscriptionsError};

const MARK: [u8; 16] = *b"rm-subscription\x01";

/// Values of enumerations are by their places in these lists, which only grow.
const OVERFLOWS: [Overflow; 3] = [Overflow::Block, Overflow::DropNewest, Overflow::DropOldest];
const REPLAYS: [ReplayPolicy; 2] = [ReplayPolicy::Never, ReplayPolicy::Safe];
const OVER_LIMITS: [OverLimit; 2] = [OverLimit::Queue, OverLimit::Reject];
const WHILE_OPEN: [WhileOpen; 3] = [WhileOpen::Hold, WhileOpen::DeadLetter, WhileOpen::NextTarget];
const PRIORITIES: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
const KEYS: [Key; 5] = [Key::Subscription, Key::Topic, Key::Source, Key::Aggregate, Key::Correlation];

#[derive(Archive, Serialize, Deserialize)]
struct Record {
    id: [u8; 16],
    name: String,
    pattern: String,
    handler: String,
    types: Vec<String>,
    sources: Vec<String>,
    priorities: Vec<u8>,
    /// Each before what it holds.
    conditions: Vec<Node>,
    is_durable: bool,
    mode: Mode,
    overflow: u8,
    replay: u8,
    suspend_after: u32,
    capacity: Option<u64>,
    handler_timeout: Option<Duration>,
    retry: Option<(u8, u16, Duration, Duration)>,
    breaker: Option<Breaker>,
    rate: Option<(f64, u32, u8)>,
    dedup: Option<(Duration, u64)>,
    order: Option<u8>,
    latest_by: Option<u8>,
    keys_max: Option<u64>,
}

#[derive(Archive, Serialize, Deserialize)]
struct Breaker {
    failures_max: u32,
    percent: u8,
    events_min: u32,
    window: Duration,
    open_for: Duration,
    probes: u8,
    while_open: u8,
}

#[derive(Archive, Serialize, Deserialize)]
enum Mode {
    BestEffort,
    Reliable(Duration),
    LatestOnly,
}

/// A condition; groups are followed by what they hold.
#[derive(Archive, Serialize, Deserialize)]
enum Node {
    All(u32),
    Any(u32),
    Not,
    Field { name: String, comparison: String, values: Vec<Value> },
}

#[derive(Archive, Serialize, Deserialize)]
enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
}

fn place<T: PartialEq>(list: &[T], one: &T) -> u8 {
    list.iter().position(|other| other == one).expect("the list has all of them") as u8
}

/// The place of a key, unless it is code.
fn key(setting: &'static str, key: Option<&Key>) -> Result<Option<u8>, StoredSubscriptionsError> {
    let Some(key) = key else { return Ok(None) };
    let same = |other: &Key| std::mem::discriminant(other) == std::mem::discriminant(key);
    let place = KEYS.iter().position(same).ok_or(StoredSubscriptionsError::Code { setting })?;
    Ok(Some(place as u8))
}

/// The value of a subscription.
pub(super) fn write(wish: &StoredSubscription, id: SubscriptionId) -> Result<Vec<u8>, StoredSubscriptionsError> {
    let mut conditions = Vec::new();
    wish.conditions.iter().for_each(|condition| put(condition, &mut conditions));
    let dedup = match &wish.dedup {
        Some(window) if window.is_by_key() => return Err(StoredSubscriptionsError::Code { setting: "dedup" }),
        window => window.as_ref().map(|window| window.size()),
    };
    let record = Record {
        id: *EventId::from(id).as_bytes(),
        name: wish.name.clone(),
        pattern: wish.pattern.clone(),
        handler: wish.handler.clone(),
        types: wish.filter.event_types.clone(),
        sources: wish.filter.sources.clone(),
        priorities: wish.filter.priorities.iter().map(|one| place(&PRIORITIES, one)).collect(),
        conditions,
        is_durable: wish.is_durable,
        mode: match wish.mode {
            DeliveryMode::BestEffort => Mode::BestEffort,
            DeliveryMode::Reliable { timeout } => Mode::Reliable(timeout),
            DeliveryMode::LatestOnly => Mode::LatestOnly,
        },
        overflow: place(&OVERFLOWS, &wish.overflow),
        replay: place(&REPLAYS, &wish.replay),
        suspend_after: wish.suspend_after,
        capacity: wish.capacity.map(|events| events as u64),
        handler_timeout: wish.handler_timeout,
        retry: wish.retry.map(|one| (one.attempts(), one.releases(), one.first_delay(), one.longest_delay())),
        breaker: wish.breaker.map(|one| {
            let (percent, events_min, window) = one.share();
            Breaker {
                failures_max: one.failures(),
                percent,
                events_min,
                window,
                open_for: one.open_time(),
                probes: one.probe_count(),
                while_open: place(&WHILE_OPEN, &one.meanwhile()),
            }
        }),
        rate: wish.rate.map(|(rate, over)| (rate.events_per_second(), rate.burst_max(), place(&OVER_LIMITS, &over))),
        dedup: dedup.map(|(time, keys)| (time, keys as u64)),
        order: key("ordered_by", wish.order.as_ref())?,
        latest_by: key("latest_by", wish.latest_by.as_ref())?,
        keys_max: wish.keys_max.map(|keys| keys as u64),
    };
    let archive = rkyv::to_bytes::<rancor::Error>(&record).expect("a record of texts and numbers is archived");
    Ok([&MARK, &*archive].concat())
}

/// The subscription of a value; `None` when it is none, or of a newer program.
pub(super) fn read(value: &[u8]) -> Option<(StoredSubscription, SubscriptionId)> {
    let archive = value.strip_prefix(&MARK)?;
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    let record = rkyv::from_bytes::<Record, rancor::Error>(&aligned).ok()?;
    let one_of = |list: &[Key], place: Option<u8>| match place {
        Some(place) => list.get(usize::from(place)).cloned().map(Some),
        None => Some(None),
    };
    let mut wish = StoredSubscription::new(record.name, record.pattern, record.handler);
    let priorities = record.priorities.iter().map(|place| PRIORITIES.get(usize::from(*place)).copied());
    wish.filter = RuleFilter {
        event_types: record.types,
        sources: record.sources,
        priorities: priorities.collect::<Option<_>>()?,
    };
    let mut nodes = record.conditions.into_iter();
    while nodes.len() > 0 {
        wish.conditions.push(take(&mut nodes, 0)?);
    }
    wish.is_durable = record.is_durable;
    wish.mode = match record.mode {
        Mode::BestEffort => DeliveryMode::BestEffort,
        Mode::Reliable(timeout) => DeliveryMode::Reliable { timeout },
        Mode::LatestOnly => DeliveryMode::LatestOnly,
    };
    wish.overflow = *OVERFLOWS.get(usize::from(record.overflow))?;
    wish.replay = *REPLAYS.get(usize::from(record.replay))?;
    wish.suspend_after = record.suspend_after;
    wish.capacity = record.capacity.map(|events| events as usize);
    wish.handler_timeout = record.handler_timeout;
    wish.retry = record.retry.map(|(attempts, releases, first, longest)| {
        RetryPolicy::default().attempts_max(attempts).releases_max(releases).delays(first, longest)
    });
    if let Some(one) = record.breaker {
        let policy = BreakerPolicy::default().failures_max(one.failures_max).open_for(one.open_for).probes(one.probes);
        let while_open = *WHILE_OPEN.get(usize::from(one.while_open))?;
        wish.breaker = Some(policy.share_max(one.percent, one.events_min, one.window).while_open(while_open));
    }
    if let Some((per_second, burst, over)) = record.rate {
        wish.rate = Some((Rate::per_second(per_second).burst(burst), *OVER_LIMITS.get(usize::from(over))?));
    }
    wish.dedup = record.dedup.map(|(time, keys)| DedupWindow::default().time(time).keys_max(keys as usize));
    wish.order = one_of(&KEYS, record.order)?;
    wish.latest_by = one_of(&KEYS, record.latest_by)?;
    wish.keys_max = record.keys_max.map(|keys| keys as usize);
    Some((wish, SubscriptionId::from(EventId::from_bytes(record.id))))
}

fn put(condition: &Condition, nodes: &mut Vec<Node>) {
    let inner = match condition.to_parts() {
        ConditionParts::All(inner) => {
            nodes.push(Node::All(inner.len() as u32));
            inner
        }
        ConditionParts::Any(inner) => {
            nodes.push(Node::Any(inner.len() as u32));
            inner
        }
        ConditionParts::Not(inner) => {
            nodes.push(Node::Not);
            vec![*inner]
        }
        ConditionParts::Field { name, comparison, values } => {
            let values = values.into_iter().map(|value| match value {
                Operand::Null => Value::Null,
                Operand::Bool(value) => Value::Bool(value),
                Operand::Integer(value) => Value::Integer(value),
                Operand::Float(value) => Value::Float(value),
                Operand::Text(value) => Value::Text(value),
            });
            nodes.push(Node::Field { name, comparison, values: values.collect() });
            Vec::new()
        }
    };
    inner.iter().for_each(|condition| put(condition, nodes));
}

/// Deeper ones than a rule may have are none.
fn take(nodes: &mut impl Iterator<Item = Node>, depth: usize) -> Option<Condition> {
    if depth > crate::RoutingRule::DEPTH_MAX {
        return None;
    }
    let group = |count: u32, nodes: &mut _| (0..count).map(|_| take(nodes, depth + 1)).collect::<Option<Vec<_>>>();
    Condition::from_parts(match nodes.next()? {
        Node::All(count) => ConditionParts::All(group(count, nodes)?),
        Node::Any(count) => ConditionParts::Any(group(count, nodes)?),
        Node::Not => ConditionParts::Not(Box::new(take(nodes, depth + 1)?)),
        Node::Field { name, comparison, values } => {
            let values = values.into_iter().map(|value| match value {
                Value::Null => Operand::Null,
                Value::Bool(value) => Operand::Bool(value),
                Value::Integer(value) => Operand::Integer(value),
                Value::Float(value) => Operand::Float(value),
                Value::Text(value) => Operand::Text(value),
            });
            ConditionParts::Field { name, comparison, values: values.collect() }
        }
    })
}
