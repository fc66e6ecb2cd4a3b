//! Who calls: the clients, what each may do, and what it has used of its limits.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::api::config;
use crate::api::keys;
use crate::api::keys::KeyHash;
use crate::api::keys::KeyId;
use crate::api::keys::Scope;
use crate::api::limits::DailyQuota;
use crate::api::limits::Limiter;
use crate::api::serve::Shown;
use crate::clock::Clock;
use crate::message::Class;
use crate::time::Time;

/// A client while the process runs.
pub(crate) struct Client {
    pub(crate) name: Box<str>,
    config: config::Client,
    pub(crate) messages: Arc<Limiter>,
    pub(crate) requests: Arc<Limiter>,
    pub(crate) quota: DailyQuota,
    waits: Arc<Semaphore>,
}

impl Client {
    fn new(name: &str, config: &config::Client, clock: Clock) -> Self {
        let hundred = NonZeroU32::MIN.saturating_add(99);
        let requests = Limiter::new("requests", config.request_rate, hundred, clock);
        Self {
            name: name.into(),
            messages: Arc::new(Limiter::new("messages", config.rate, config.burst(), clock)),
            requests: Arc::new(requests),
            quota: DailyQuota::new(config.daily_quota),
            waits: Arc::new(Semaphore::new(config.waits.get().into())),
            config: config.clone(),
        }
    }

    /// The client under a new config, with what it has used of the limits that did not change.
    fn renewed(&self, config: &config::Client, clock: Clock) -> Self {
        let mut new = Self::new(&self.name, config, clock);
        if (config.rate, config.burst()) == (self.config.rate, self.config.burst()) {
            new.messages = Arc::clone(&self.messages);
        }
        if config.request_rate == self.config.request_rate {
            new.requests = Arc::clone(&self.requests);
        }
        if config.waits == self.config.waits {
            new.waits = Arc::clone(&self.waits);
        }
        new.quota = self.quota.with_most(config.daily_quota);
        new
    }

    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.config.scopes.contains(&scope)
    }

    /// Whether a request of it may come with this certificate, or with none.
    pub(crate) fn takes(&self, shown: Option<&Shown>) -> bool {
        match &self.config.certificate {
            None => true,
            Some(name) => shown.is_some_and(|shown| shown.is_for(name)),
        }
    }

    /// A place to wait in; none when the client waits in all of its own.
    pub(crate) fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waits).try_acquire_owned().ok()
    }

    pub(crate) fn sender(&self) -> Option<&str> {
        self.config.sender.as_deref()
    }

    pub(crate) fn allows_sender(&self, sender: &str) -> bool {
        config::allows_sender(&self.config.senders, sender)
    }

    pub(crate) fn allows_class(&self, class: Class) -> bool {
        self.config.classes.is_empty() || self.config.classes.contains(&class)
    }

    pub(crate) fn allows_route(&self, route: &str) -> bool {
        self.config.routes.is_empty() || self.config.routes.iter().any(|allowed| allowed == route)
    }

    pub(crate) fn allows_destination(&self, digits: &str) -> bool {
        let prefixes = &self.config.destinations;
        prefixes.is_empty() || prefixes.iter().any(|prefix| digits.starts_with(prefix.as_str()))
    }
}

/// Every client, found by its keys.
pub(crate) struct Clients {
    by_id: HashMap<KeyId, (KeyHash, Arc<Client>)>,
    by_name: BTreeMap<Box<str>, Arc<Client>>,
}

impl Clients {
    pub(crate) fn new(clients: &BTreeMap<String, config::Client>, clock: Clock) -> Self {
        Self::of(clients, |name, client| Client::new(name, client, clock))
    }

    /// The clients of a new config; what they have used of their limits stays used.
    pub(crate) fn renewed(&self, clients: &BTreeMap<String, config::Client>, clock: Clock) -> Self {
        Self::of(clients, |name, client| match self.by_name.get(name) {
            Some(old) => old.renewed(client, clock),
            None => Client::new(name, client, clock),
        })
    }

    fn of(
        clients: &BTreeMap<String, config::Client>,
        make: impl Fn(&str, &config::Client) -> Client,
    ) -> Self {
        let mut all = Self { by_id: HashMap::new(), by_name: BTreeMap::new() };
        for (name, config) in clients {
            let client = Arc::new(make(name, config));
            for hash in &config.keys {
                all.by_id.insert(hash.id(), (*hash, Arc::clone(&client)));
            }
            all.by_name.insert(name.as_str().into(), client);
        }
        all
    }

    /// The client that a token belongs to.
    pub(crate) fn authenticate(&self, token: &str) -> Option<Arc<Client>> {
        let known = self.by_id.get(&keys::split(token)?);
        // An id that nobody has takes as long as a wrong secret.
        let is_right = known.map_or(KeyHash::NOBODYS, |(hash, _)| *hash).is_of(token);
        known.filter(|_| is_right).map(|(_, client)| Arc::clone(client))
    }

    /// Counts what a client used today before the process started.
    pub(crate) fn restore_quota(&self, name: &str, now: Time, count: u64) {
        if let Some(client) = self.by_name.get(name) {
            client.quota.restore(now, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::keys::NewKey;

    #[tokio::test]
    async fn both_keys_of_a_client_open_and_nothing_else_does() {
        let (old, new) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let config = config::Client { keys: vec![old.hash, new.hash], ..Default::default() };
        let clock = Clock::start();
        let clients = BTreeMap::from([("shop".to_owned(), config)]);
        let clients = Clients::new(&clients, clock);
        for token in [&old.token, &new.token] {
            assert_eq!(&*clients.authenticate(token).unwrap().name, "shop");
        }
        let mut forged = old.token.clone();
        let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
        forged.push(last);
        for wrong in ["", "hky_", &old.token[..54], &forged, &NewKey::generate().unwrap().token] {
            assert!(clients.authenticate(wrong).is_none(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_keeps_what_was_used() {
        let key = NewKey::generate().unwrap();
        let config = config::Client {
            keys: vec![key.hash],
            burst: Some(NonZeroU32::MIN),
            daily_quota: Some(5),
            ..Default::default()
        };
        let clock = Clock::start();
        let clients = BTreeMap::from([("shop".to_owned(), config.clone())]);
        let clients = Clients::new(&clients, clock);
        assert!(clients.authenticate(&key.token).unwrap().messages.take().is_ok());
        let tighter = config::Client { daily_quota: Some(0), ..config };
        let clients = clients.renewed(&BTreeMap::from([("shop".to_owned(), tighter)]), clock);
        let client = clients.authenticate(&key.token).unwrap();
        assert!(client.messages.take().is_err());
        assert!(client.quota.take(Time::from_secs(1)).is_err());
    }
}
