//! Reading events: what the server can tell by its indices it tells, the rest is looked at here.

use std::fmt::Write;
use std::time::SystemTime;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{Frame, Pattern};

use super::super::{Order, Page, Position, Query, ReadError, StoredEvent};
use super::error::PostgresFault;
use super::link::{Link, bigint};

/// A page ends with the event that brings its frames to so many bytes: 16 MiB.
const PAGE_BYTES: i64 = 16 << 20;

type Param = Box<dyn ToSql + Sync + Send>;

/// A query as the server is asked.
pub(super) struct Asked {
    text: String,
    params: Vec<Param>,
}

/// One event as it was sent.
pub(super) struct Row {
    position: i64,
    recorded_at: SystemTime,
    frame: Vec<u8>,
}

impl Asked {
    /// `None`: nothing can be meant. One event more than the limit is asked for, to know whether there is more.
    pub(super) fn of(query: &Query, limit: usize) -> Option<Self> {
        let (first, last) = query.positions()?;
        let mut asked = Self { text: String::new(), params: Vec::new() };
        let order = if query.order() == Order::NewestFirst { "DESC" } else { "ASC" };
        let before = format!(
            "SELECT position, recorded_at, frame FROM (
                SELECT position, recorded_at, frame, sum(octet_length(frame)) OVER (ORDER BY position {order})
                    - octet_length(frame) AS before
                FROM (SELECT position, recorded_at, frame FROM events WHERE true"
        );
        asked.text.push_str(&before);
        asked.and("position >=", bigint(first.get()));
        asked.and("position <=", bigint(last.get()));
        if let Some((kind, id)) = query.aggregate_asked() {
            asked.and("aggregate_kind =", kind.as_bytes().to_vec());
            asked.and("aggregate_id =", id.as_bytes().to_vec());
        }
        if query.after_version_asked() > 0 {
            let version = query.after_version_asked().to_string();
            asked.params.push(Box::new(version));
            let nth = asked.params.len();
            write!(asked.text, " AND aggregate_version > ${nth}::text::numeric").expect("a text takes all");
        }
        if let Some(id) = query.correlation_asked() {
            asked.and("correlation =", Uuid::from_bytes(*id.as_bytes()));
        }
        if let Some(source) = query.source_asked() {
            asked.and("source =", source.as_bytes().to_vec());
        }
        if let Some(pattern) = query.pattern_asked() {
            asked.and_topic(pattern);
        }
        let more = bigint(limit as u64 + 1);
        asked.params.push(Box::new(more));
        let nth = asked.params.len();
        write!(
            asked.text,
            " ORDER BY position {order} LIMIT ${nth}) AS events) AS events WHERE before < {PAGE_BYTES} ORDER BY position {order}"
        )
        .expect("a text takes all");
        Some(asked)
    }

    fn and(&mut self, what: &str, param: impl ToSql + Sync + Send + 'static) {
        self.params.push(Box::new(param));
        let nth = self.params.len();
        write!(self.text, " AND {what} ${nth}").expect("a text takes all");
    }

    /// Exact, or by what every topic that matches begins with.
    fn and_topic(&mut self, pattern: &Pattern) {
        let text = pattern.as_str();
        if pattern.is_exact() {
            return self.and("topic =", text.as_bytes().to_vec());
        }
        let (literal, _) = text.split_once('*').unwrap_or((text, ""));
        // `a.**` may match `a`, too.
        let begin = literal.strip_suffix('.').unwrap_or(literal).as_bytes();
        if let Some((last, rest)) = begin.split_last().filter(|(last, _)| **last < u8::MAX) {
            let mut end = rest.to_vec();
            end.push(last + 1);
            self.and("topic >=", begin.to_vec());
            self.and("topic <", end);
        }
    }
}

/// Events that the server finds, in their order.
pub(super) async fn rows(link: &Link, asked: &Asked) -> Result<Vec<Row>, PostgresFault> {
    let failed = PostgresFault::at("read events");
    let connection = link.reading().await?;
    let statement = connection.prepare_cached(&asked.text).await.map_err(&failed)?;
    let params: Vec<_> = asked.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
    let rows = connection.query(&statement, &params).await.map_err(&failed)?;
    Ok(rows.iter().map(|row| Row { position: row.get(0), recorded_at: row.get(1), frame: row.get(2) }).collect())
}

/// The page that these rows make; one more than the limit says that there is more, as do so many bytes.
pub(super) fn page(query: &Query, limit: usize, rows: Vec<Row>) -> Result<Page, ReadError> {
    let mut page = Page { events: Vec::new(), next: None };
    let mut bytes = 0;
    for (nth, row) in rows.into_iter().enumerate() {
        if nth == limit {
            return Ok(page);
        }
        bytes += bigint(row.frame.len() as u64);
        let position = Position::new(row.position.unsigned_abs()).expect("positions begin with 1");
        match Frame::copied_from(&row.frame) {
            Ok(frame) => {
                let event = StoredEvent::new(position, row.recorded_at, frame);
                if query.means(&event) {
                    page.events.push(event);
                }
            }
            // What is before it is read first.
            Err(_) if page.next.is_some() => return Ok(page),
            Err(error) => return Err(ReadError::NoEvent { position, error }),
        }
        page.next = Some(position);
    }
    page.next = page.next.filter(|_| bytes >= PAGE_BYTES);
    Ok(page)
}
