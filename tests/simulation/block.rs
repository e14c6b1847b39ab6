//! Requests that block: while one waits the workers turn, and whoever looks first tells the model that its query is out.

use std::time::Duration;

use ringmain::RequestError;

use crate::ask::Asker;
use crate::requests::Asking;
use crate::scenario::Scenario;
use crate::subjects::{Small, Spec};

impl Scenario {
    /// A request that waits, as far as anything waits here: until the workers have nothing left to do. `Some`: it was refused before
    /// it had a place.
    pub(crate) fn block(
        &mut self,
        nth: usize,
        number: usize,
        spec: &Spec,
        asker: &Asker,
        query: &Small,
        timeout: Duration,
    ) -> Option<RequestError> {
        let (world, accepted) = (self.world.clone(), self.bus().ledger().accepted);
        let asking = Asking { nth, number, spec: spec.clone() };
        let result = self.drive(|simulation| {
            world.0.lock().expect("no panic happens under the lock").asking = Some(asking);
            let result = asker.request(query, timeout);
            // Nobody has looked meanwhile.
            let mut world = world.0.lock().expect("no panic happens under the lock");
            let unseen = world.asking.take();
            if let Some(unseen) = unseen.filter(|_| simulation.bus().ledger().accepted > accepted) {
                world.asked(unseen.nth, unseen.number, &unseen.spec);
            }
            result
        });
        self.note(format_args!("{nth} has waited for {number}: {result:?}"));
        self.count("request that blocks");
        let checked = match result {
            Ok(answer) => self.take_answer(nth, number, answer),
            Err(error @ (RequestError::Full { .. } | RequestError::NoResponder { .. })) => return Some(error),
            Err(error) => self.failed(nth, number, spec, &error, true),
        };
        self.check(checked.map_err(|what| format!("request {number} of {nth}: {what}")));
        None
    }
}
