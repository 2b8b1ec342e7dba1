//! Charts as data: which columns of which table are drawn how. The runtime draws them.

/// A chart of one or several tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// The name of its files.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What the vertical axis counts, with its unit where there is one.
    pub y_label: &'static str,
    /// What is drawn, from back to front. All layers share a horizontal axis of days, or of what [`Mark::Count`] counts.
    pub layers: Vec<Layer>,
    /// A table whose last day is that of as-of. It is marked, since it is not over and its values will still grow.
    pub today: Option<&'static str>,
}

impl Chart {
    /// Whether the tables are there that it needs.
    pub fn can_be_drawn(&self, has: impl Fn(&str) -> bool) -> bool {
        self.layers.iter().all(|layer| layer.days_before.is_some() || has(layer.table))
    }
}

/// One kind of mark, from the rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The table.
    pub table: &'static str,
    /// The column of days; for [`Mark::Count`] any column.
    pub x: &'static str,
    /// What is drawn.
    pub mark: Mark,
    /// The column that tells series apart, in the order of its labels; without one there is one series of this name.
    pub series: Series,
    /// Of what was before: so many days before that of as-of, and no others. Without its table the chart is drawn all the same.
    pub days_before: Option<i32>,
}

/// How rows become series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// A series for each value of this column.
    By(&'static str),
    /// One series, with this name in the legend.
    One(&'static str),
}

/// What is drawn for a series. A day without a row is 0 for areas and bars, and a gap in lines and bands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An area of this column's values, on top of the series before.
    StackedArea(&'static str),
    /// A bar a day.
    Bars(&'static str),
    /// A line.
    Line(&'static str),
    /// A bar for each value of the horizontal column, as high as there are rows with it; the highest first, and the lowest together.
    Count,
    /// A band from the first column's values to the second's.
    Band(&'static str, &'static str),
}
