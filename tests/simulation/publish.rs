//! Steps that publish, by every verb there is.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmain::{EventId, EventSource, FullPolicy, Priority, PublishError};

use crate::scenario::{Scenario, Speaker};
use crate::subjects::{SOURCES, Spec, with_subject};

const SOURCE_DEFAULT: &str = "service:ringmain";

impl Scenario {
    pub(crate) fn next_publisher(&mut self) -> usize {
        self.publishers_made += 1;
        self.publishers_made
    }

    fn judge(&mut self, spec: &Spec, result: Result<EventId, PublishError>, by: Option<usize>, source: &str) {
        self.world.with(|world| match result {
            Ok(id) if world.is_closed => world.broken(format!("{id} was accepted after the end")),
            Ok(id) => world.accepted(id, spec, by, source, false),
            Err(error) => world.refused(spec, 1, &error),
        });
    }

    /// Makes a publisher, drops one, or gives one another source or policy.
    pub(crate) fn change_speakers(&mut self) {
        match self.draw.below(4) {
            0 if !self.speakers.is_empty() => {
                let at = self.draw.below(self.speakers.len());
                self.speakers.swap_remove(at);
                self.count("publisher dropped");
            }
            1 if !self.speakers.is_empty() => {
                let (at, source) = (self.draw.below(self.speakers.len()), self.draw.pick(&SOURCES));
                let percent = self.draw.pick(&[20, 60]);
                let policy = self.draw.pick(&[FullPolicy::REJECT, FullPolicy::wait(Duration::from_secs(1))]);
                let policy = if self.draw.one_in(3) { policy } else { policy.shed_low_above(percent) };
                let speaker = &mut self.speakers[at];
                speaker.publisher.set_full_policy(policy);
                speaker.publisher.set_source(EventSource::named(source)).unwrap_or_else(|error| panic!("{error}"));
                source.clone_into(&mut speaker.source);
            }
            _ => self.make_speaker(),
        }
    }

    fn make_speaker(&mut self) {
        let parent = (!self.speakers.is_empty() && self.draw.one_in(3)).then(|| self.draw.below(self.speakers.len()));
        let (made, source) = match parent {
            Some(at) => (self.speakers[at].publisher.try_clone(), self.speakers[at].source.clone()),
            None => (self.bus().publisher(), SOURCE_DEFAULT.to_owned()),
        };
        match made {
            Ok(publisher) => {
                self.count("publisher made");
                let nth = self.next_publisher();
                self.speakers.push(Speaker { publisher, nth, source });
            }
            Err(PublishError::NoPublisher { .. }) => self.count("publisher refused"),
            Err(PublishError::ShuttingDown) if self.is_closed() => {}
            Err(error) => self.check(Err(format!("no publisher: {error}"))),
        }
    }

    /// A publisher to speak with, taken out so that workers may turn meanwhile.
    pub(crate) fn speaker(&mut self) -> Option<Speaker> {
        if self.speakers.is_empty() {
            self.make_speaker();
        }
        if self.speakers.is_empty() {
            return None;
        }
        let at = self.draw.below(self.speakers.len());
        Some(self.speakers.swap_remove(at))
    }

    /// Topic, payload, priority.
    pub(crate) fn publish(&mut self) {
        // A few in a row, as publishers do: the short way is for the second one on.
        for _ in 0..1 + self.draw.below(4) {
            let mut spec = Spec::plain(&mut self.draw);
            if self.draw.one_in(2) {
                spec.priority = Priority::Normal;
            }
            self.speak(&spec, false);
        }
    }

    /// With an envelope.
    pub(crate) fn publish_in_full(&mut self) {
        let spec = Spec::dressed(&mut self.draw);
        self.speak(&spec, true);
    }

    pub(crate) fn speak(&mut self, spec: &Spec, in_full: bool) {
        let Some(mut speaker) = self.speaker() else { return };
        let limit = Duration::from_millis(5);
        let verb = self.draw.below(5);
        let content = &spec.content;
        let result = if verb == 4 {
            self.speak_async(&mut speaker, spec, in_full)
        } else if in_full || spec.priority != Priority::Normal {
            let event =
                if in_full { spec.dress(speaker.publisher.event()) } else { speaker.publisher.at(spec.priority) };
            Some(with_subject!(content, spec.topic, |topic, payload| match verb {
                0 => event.publish(topic, payload),
                1 => event.try_publish(topic, payload),
                _ => event.publish_deadline(topic, payload, limit),
            }))
        } else {
            let publisher = &mut speaker.publisher;
            Some(with_subject!(content, spec.topic, |topic, payload| match verb {
                0 => publisher.publish(topic, payload),
                1 => publisher.try_publish(topic, payload),
                _ => publisher.publish_deadline(topic, payload, limit),
            }))
        };
        if let Some(result) = result {
            self.judge(spec, result, Some(speaker.nth), &speaker.source);
        }
        self.speakers.push(speaker);
    }

    /// Awaits room once, while the workers turn; `None` when it gave up.
    fn speak_async(
        &mut self,
        speaker: &mut Speaker,
        spec: &Spec,
        in_full: bool,
    ) -> Option<Result<EventId, PublishError>> {
        let event = if in_full { spec.dress(speaker.publisher.event()) } else { speaker.publisher.at(spec.priority) };
        let mut context = Context::from_waker(Waker::noop());
        with_subject!(&spec.content, spec.topic, |topic, payload| {
            let mut publishing = pin!(event.publish_async(topic, payload));
            let mut result = publishing.as_mut().poll(&mut context);
            if result.is_pending() {
                self.count("async waited");
                self.drive(|simulation| simulation.run());
                result = publishing.as_mut().poll(&mut context);
            }
            match result {
                Poll::Ready(result) => {
                    self.count("async published");
                    Some(result)
                }
                Poll::Pending => {
                    self.count("async given up");
                    None
                }
            }
        })
    }

    /// By a publisher that the bus lends for the call.
    pub(crate) fn publish_borrowed(&mut self) {
        let mut spec = Spec::plain(&mut self.draw);
        spec.priority = Priority::Normal;
        let bus = self.simulation.bus();
        let result = with_subject!(&spec.content, spec.topic, |topic, payload| bus.publish(topic, payload));
        self.count("borrowed publish");
        self.judge(&spec, result, None, SOURCE_DEFAULT);
    }

    /// Several events in one piece, or none of them.
    pub(crate) fn publish_batch(&mut self) {
        let Some(mut speaker) = self.speaker() else { return };
        let priority = self.draw.pick(&Priority::ALL);
        let mut batch = speaker.publisher.batch(priority);
        let mut added = Vec::new();
        let mut refused = Vec::new();
        for _ in 0..1 + self.draw.below(6) {
            let mut spec =
                if self.draw.one_in(3) { Spec::dressed(&mut self.draw) } else { Spec::plain(&mut self.draw) };
            if !self.draw.one_in(12) {
                spec.priority = priority;
            }
            if !self.draw.one_in(3) {
                spec.not_before = None;
            }
            let result = with_subject!(&spec.content, spec.topic, |topic, payload| {
                batch.add_with(topic, payload, |event| spec.dress(event))
            });
            match result {
                Ok(id) => added.push((id, spec)),
                Err(error) => refused.push((spec, error)),
            }
        }
        let sent = match self.draw.below(8) {
            0 => {
                drop(batch);
                None
            }
            1 => {
                // Its publisher clears up.
                std::mem::forget(batch);
                None
            }
            2..5 => Some(batch.try_publish()),
            _ => Some(batch.publish()),
        };
        let (nth, source) = (speaker.nth, speaker.source.clone());
        self.world.with(|world| {
            for (spec, error) in &refused {
                world.refused(spec, 1, error);
            }
            match sent {
                None => world.census.count("batch abandoned"),
                Some(Ok(ids)) => {
                    world.census.count("batch published");
                    if world.is_closed || !ids.iter().eq(added.iter().map(|(id, _)| id)) {
                        world.broken(format!("a batch of {added:?} was published as {ids:?}"));
                    }
                    for (id, spec) in &added {
                        world.accepted(*id, spec, Some(nth), &source, false);
                    }
                }
                Some(Err(error)) => {
                    world.census.count("batch refused");
                    let first = added.first().map(|(_, spec)| spec.clone());
                    let mut spec = first.unwrap_or_else(|| Spec::plain(&mut crate::draw::Draw::new(0)));
                    spec.priority = priority;
                    world.refused(&spec, added.len() as u64, &error);
                }
            }
        });
        self.speakers.push(speaker);
    }

    /// Written in place, in a block of the pool.
    pub(crate) fn publish_loan(&mut self) {
        let Some(mut speaker) = self.speaker() else { return };
        let mut spec = Spec::plain(&mut self.draw);
        let bytes: Vec<_> = (0..self.draw.below(2_000)).map(|_| self.draw.next() as u8).collect();
        spec.topic = self.draw.pick(&crate::subjects::NAMES);
        let result = match speaker.publisher.loan(bytes.len()) {
            Ok(mut loan) => {
                loan.bytes_mut().copy_from_slice(&bytes);
                match self.draw.below(4) {
                    0 | 1 => None,
                    _ => Some(loan.publish(spec.priority, spec.topic)),
                }
            }
            Err(error) => Some(Err(error)),
        };
        spec.content = crate::subjects::Content::Raw(bytes);
        self.count(if result.is_some() { "loan published" } else { "loan abandoned" });
        if let Some(result) = result {
            self.judge(&spec, result, Some(speaker.nth), &speaker.source);
        }
        self.speakers.push(speaker);
    }
}
