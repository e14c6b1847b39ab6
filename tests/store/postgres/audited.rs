//! The audit trail in a store whose server is lost.

use std::sync::Arc;

use ringmain::store::{AuditQuery, AuditRecord, AuditTrail, PostgresStore};
use ringmain::{Bus, RoutingRule};

use super::cut::{Cut, Proxy};
use super::{fresh, server};
use crate::books::Asked;

#[test]
fn a_record_whose_commit_is_not_answered_is_there_once_and_so_is_what_it_speaks_of() {
    let Some(url) = server() else { return };
    let (_, schema) = fresh(&url);
    let proxy = Proxy::new(&url);
    let store = Arc::new(PostgresStore::builder(proxy.url()).schema(schema).connections_max(2).open().unwrap());
    let bus = Asked(Bus::builder().workers(1).build().unwrap());
    let trail = AuditTrail::over(&bus, store.clone()).unwrap();
    let ada = trail.by("ada");
    for (id, cut) in [("a", Cut::Nothing), ("b", Cut::BeforeCommit), ("c", Cut::AfterCommit)] {
        proxy.cut(cut);
        ada.add_rule(RoutingRule::new(id).to("service")).unwrap();
    }
    let records: Vec<_> = AuditQuery::new().actor("ada").stream(&*store).map(Result::unwrap).collect();
    assert_eq!(records.iter().map(AuditRecord::object).collect::<Vec<_>>(), ["rule a", "rule b", "rule c"]);
    assert_eq!(bus.rules().list().len(), 3);
}
