//! Two versions of sorted rows, and the changes between them.

/// What is in one sorted list and not in the other.
pub(crate) fn differences<T: Ord>(before: &[T], after: &[T], mut give: impl FnMut(&T, isize)) {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        if order.is_le()
            && let Some(old) = before.next()
            && order.is_lt()
        {
            give(old, -1);
        }
        if order.is_ge()
            && let Some(new) = after.next()
            && order.is_gt()
        {
            give(new, 1);
        }
    }
}
