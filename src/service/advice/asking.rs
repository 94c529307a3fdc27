//! Asking the AI service: within its limits and the member's budget.

use std::{sync::Arc, time::Duration};

use protocol::{MemberId, Timestamp, rest::ai::AdviceFallback};

use crate::{
    ai::{Engine, Trouble, guard::Guard},
    store::RecommendationStore,
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
        match budgets.spend(member, day, self.daily_budget).await {
            Ok(true) => place.ask(question).await,
            // What cannot be counted is not spent.
            Ok(false) | Err(_) => Err(AdviceFallback::BudgetSpent),
        }
    }
}
