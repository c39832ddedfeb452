//! How many requests and tokens go out per minute, and how many requests at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Limits that the caller sets, as a provider states them for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute, prompts and answers together.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Requests under way at the same time.
    pub concurrent: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrent: NonZeroUsize::new(4).expect("4 is not 0"),
        }
    }
}

/// Lets requests through.
#[derive(Debug)]
pub(crate) struct Limiter {
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
    permits: Semaphore,
    /// Nothing goes out before.
    hold: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        let bucket = |limit: Option<NonZeroU32>| limit.map(|limit| Mutex::new(Bucket::new(limit)));
        Self {
            requests: bucket(limits.requests_per_minute),
            tokens: bucket(limits.tokens_per_minute),
            permits: Semaphore::new(limits.concurrent.get()),
            hold: Mutex::default(),
        }
    }

    /// Waits until a request of so many tokens may go out; it is under way while the permit lives.
    pub(crate) async fn admit(&self, tokens: u64) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let take = |bucket: &Option<Mutex<Bucket>>, amount| bucket.as_ref().map(|bucket| lock(bucket).take(amount));
        let waits = [take(&self.requests, 1.0), take(&self.tokens, tokens as f64)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            tokio::time::sleep(wait).await;
        }
        while let Some(until) = self.held_until() {
            tokio::time::sleep_until(until).await;
        }
        permit
    }

    /// Gives back tokens that were reserved and not used, or takes those used beyond.
    pub(crate) fn settle(&self, reserved: u64, used: u64) {
        if let Some(bucket) = &self.tokens {
            lock(bucket).add(reserved as f64 - used as f64);
        }
    }

    /// Nothing goes out for so long: the endpoint asked for it.
    pub(crate) fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut hold = lock(&self.hold);
        *hold = (*hold).max(Some(until));
    }

    fn held_until(&self) -> Option<Instant> {
        lock(&self.hold).filter(|until| *until > Instant::now())
    }
}

/// The lock; its holders do not panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token bucket. A burst is a tenth of the minute's limit and the rest flows in evenly, so no 60 seconds see more than the limit.
#[derive(Debug)]
struct Bucket {
    burst: f64,
    per_second: f64,
    /// May be negative: what is taken ahead is waited for.
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn new(limit: NonZeroU32) -> Self {
        let burst = f64::from(limit.get() / 10).max(1.0);
        let per_second = (f64::from(limit.get()) - burst + 1.0) / 60.0;
        Self { burst, per_second, level: burst, filled: Instant::now() }
    }

    fn add(&mut self, amount: f64) {
        self.level = (self.level + amount).min(self.burst);
    }

    /// Takes an amount and says after which wait it is there.
    fn take(&mut self, amount: f64) -> Duration {
        let now = Instant::now();
        self.add((now - self.filled).as_secs_f64() * self.per_second);
        self.filled = now;
        self.level -= amount;
        Duration::from_secs_f64((-self.level / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests: u32, tokens: u32, concurrent: usize) -> Limiter {
        Limiter::new(Limits {
            requests_per_minute: NonZeroU32::new(requests),
            tokens_per_minute: NonZeroU32::new(tokens),
            concurrent: NonZeroUsize::new(concurrent).unwrap(),
        })
    }

    /// Seconds after the start at which each of so many requests goes out.
    async fn departures(limiter: &Limiter, count: usize, tokens: u64) -> Vec<f64> {
        let start = Instant::now();
        let mut seconds = Vec::new();
        for _ in 0..count {
            drop(limiter.admit(tokens).await);
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_than_its_limit() {
        for limit in [1, 2, 9, 10, 25, 60, 100] {
            let seconds = departures(&limiter(limit, 0, 1), 3 * limit as usize + 2, 0).await;
            for from in &seconds {
                let within = seconds.iter().filter(|at| (*from..from + 59.99).contains(*at)).count();
                assert!(within <= limit as usize, "{within} of {limit}");
            }
            let minutes = seconds.last().unwrap() / 60.0;
            assert!(minutes < 4.5, "{limit}: {minutes} minutes for three");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unused_tokens_are_given_back() {
        let tight = limiter(0, 6000, 1);
        let slow = departures(&tight, 4, 600).await;
        assert!((slow[3] - 3.0 * 600.0 / (5401.0 / 60.0)).abs() < 0.01, "{slow:?}");
        let returned = limiter(0, 6000, 1);
        for _ in 0..20 {
            drop(returned.admit(600).await);
            returned.settle(600, 10);
        }
        let start = Instant::now();
        drop(returned.admit(300).await);
        assert!(start.elapsed().as_secs_f64() < 0.01, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_stops_everyone_and_permits_bound_what_is_under_way() {
        let limiter = limiter(0, 0, 2);
        limiter.hold(Duration::from_secs(7));
        limiter.hold(Duration::from_secs(3));
        let seconds = departures(&limiter, 2, 0).await;
        assert!((seconds[0] - 7.0).abs() < 0.01, "{seconds:?}");
        let (_first, _second) = (limiter.admit(0).await, limiter.admit(0).await);
        assert!(tokio::time::timeout(Duration::from_secs(60), limiter.admit(0)).await.is_err());
    }
}
