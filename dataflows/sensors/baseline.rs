//! What models forecast of an hour, and what is expected of it: that is rounded, so that it either is the same or is not.

use crate::doubling::{self, PARTS};

/// How many models there are.
pub const MODELS: usize = 7;

/// Which model a baseline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// L.
    Level,
    /// T.
    Trend,
    /// D.
    Daily,
    /// W.
    Weekly,
    /// E.
    DailyMoved,
    /// M.
    RecentTrend,
    /// S.
    LastHours,
}

/// All models, in the order in which one is preferred to another that is as good.
pub const ALL: [Model; MODELS] =
    [Model::Level, Model::Trend, Model::Daily, Model::Weekly, Model::DailyMoved, Model::RecentTrend, Model::LastHours];

impl Model {
    /// As in the column `model`.
    pub fn name(self) -> &'static str {
        match self {
            Model::Level => "level",
            Model::Trend => "trend",
            Model::Daily => "daily",
            Model::Weekly => "weekly",
            Model::DailyMoved => "daily_moved",
            Model::RecentTrend => "recent_trend",
            Model::LastHours => "last_hours",
        }
    }
}

/// A model's forecast of an hour.
#[derive(Clone, Copy, Debug)]
pub struct Forecast {
    /// The level at the hour's middle; NaN where there is none.
    pub level: f64,
    /// The slope by hour.
    pub slope: f64,
}

impl Forecast {
    /// A model that knows too little says nothing.
    pub const NONE: Forecast = Forecast { level: f64::NAN, slope: 0.0 };
}

/// What is expected of an hour, rounded: whole numbers, so that it either is the same or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Baseline {
    /// The level at the hour's middle, in 32nds of σ.
    level: i64,
    /// The slope by hour, in 32nds of σ.
    slope: i32,
    /// log2 σ in [`PARTS`]; [`NO_SIGMA`] where σ is 0.
    sigma: i16,
    /// Where it comes from.
    pub model: Model,
}

/// In place of the logarithm of a σ of 0.
const NO_SIGMA: i16 = i16::MIN;

impl Baseline {
    /// Rounds a forecast of a level at the hour's middle and a slope by hour. Without variance, the level is taken as 0.
    pub fn of(level: f64, slope: f64, variance: f64, model: Model) -> Baseline {
        if variance <= 0.0 {
            return Baseline { level: 0, slope: 0, sigma: NO_SIGMA, model };
        }
        let sigma = sigma_of(variance);
        let unit = unit(sigma);
        // Levels are below σ · 1e6. A slope may be steeper where measurements lie close together: then it is the steepest there is.
        #[allow(clippy::cast_possible_truncation)]
        let (level, slope) = ((level / unit).round() as i64, (slope / unit).round() as i32);
        Baseline { level, slope, sigma, model }
    }

    /// Whether a forecast by a model with a variance has this σ.
    pub fn is_as_sure(&self, variance: f64, model: Model) -> bool {
        self.model == model && self.sigma == if variance > 0.0 { sigma_of(variance) } else { NO_SIGMA }
    }

    /// The standard deviation that is expected.
    pub fn sigma(&self) -> f64 {
        unit(self.sigma) * 32.0
    }

    /// The value expected at `x` hours after the hour's start.
    pub fn expected(&self, x: f64) -> f64 {
        (self.level as f64 + self.slope as f64 * (x - 0.5)) * unit(self.sigma)
    }
}

/// log2 σ, rounded.
fn sigma_of(variance: f64) -> i16 {
    // log2 of the variance is that of σ twice.
    doubling::rounded(variance, PARTS / 2)
}

/// A 32nd of σ.
fn unit(sigma: i16) -> f64 {
    if sigma == NO_SIGMA { 0.0 } else { doubling::size(sigma) / 32.0 }
}
