//! Asking the AI service: within its limits and the member's budget.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::{MemberId, Timestamp, rest::ai::AdviceFallback};

use crate::{
    ai::{Engine, Trouble, guard::Guard},
    store::{RecommendationStore, StoreError},
    telemetry::Metrics,
};

const DAY_MILLIS: i64 = 86_400_000;

/// The AI service, and what limits its use.
pub struct Service {
    /// Asks it.
    pub engine: Arc<dyn Engine>,
    /// Deadline, places, circuit breaker.
    pub guard: Guard,
    /// Questions of one member a day.
    pub daily_budget: u32,
    /// Questions of the whole club a day.
    pub club: ClubBudget,
    /// How long what it said is shown again.
    pub refresh: Duration,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Service {
    /// Asks a question of [`Self::engine`] for a member. One from the budget is taken only if the question is really asked, and before it
    /// is: a question without an answer has its price too.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn ask<T>(
        &self,
        budgets: &dyn RecommendationStore,
        member: MemberId,
        now: Timestamp,
        question: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, AdviceFallback> {
        let answer = self.try_ask(budgets, member, now, question).await;
        self.metrics.ai_call(match &answer {
            Ok(_) => "answered",
            Err(fallback) => fallback.as_str(),
        });
        answer
    }

    async fn try_ask<T>(
        &self,
        budgets: &dyn RecommendationStore,
        member: MemberId,
        now: Timestamp,
        question: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, AdviceFallback> {
        let place = self.guard.admit()?;
        let day = now.as_millis().div_euclid(DAY_MILLIS);
        // What cannot be counted is not asked.
        let refused = |spent: Result<bool, StoreError>| match spent {
            Ok(_) => AdviceFallback::BudgetSpent,
            Err(_) => AdviceFallback::Unavailable,
        };
        let spent = self.club.spend(budgets, day).await;
        if !matches!(spent, Ok(true)) {
            return Err(refused(spent));
        }
        let spent = budgets.spend(member, day, self.daily_budget).await;
        if !matches!(spent, Ok(true)) {
            self.club.give_back();
            return Err(refused(spent));
        }
        place.ask(question).await
    }
}

/// What the whole club may ask in a day: accounts are free, so that a budget of each member bounds nothing.
///
/// Counted in memory, from what the store says that members have spent on the day; each node counts for itself.
pub struct ClubBudget {
    limit: u32,
    /// The day (days since the Unix epoch, UTC) and what was spent on it, once that is known.
    spent: Mutex<Option<(i64, u64)>>,
}

impl ClubBudget {
    /// So many questions a day.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, spent: Mutex::new(None) }
    }

    /// Takes one from what is left of a day; false if it is used up. A day that is past counts as the newest one.
    async fn spend(&self, budgets: &dyn RecommendationStore, day: i64) -> Result<bool, StoreError> {
        let known = self.known();
        if known.is_none_or(|(known, _)| known < day) {
            let spent = budgets.spent(day).await?;
            let mut counted = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have been faster, and may have spent since.
            if counted.is_none_or(|(known, _)| known < day) {
                *counted = Some((day, spent));
            }
        }
        let mut counted = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, spent)) = counted.as_mut().filter(|(_, spent)| *spent < u64::from(self.limit)) else {
            return Ok(false);
        };
        *spent += 1;
        Ok(true)
    }

    fn give_back(&self) {
        if let Some((_, spent)) = self.spent.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *spent = spent.saturating_sub(1);
        }
    }

    fn known(&self) -> Option<(i64, u64)> {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
