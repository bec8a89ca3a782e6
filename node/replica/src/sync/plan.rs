//! What is to be asked, by the sums of both sides.

use super::session::Task;
use crate::digest::Sum;
use crate::frame::{Range, Ranges, Span};
use crate::limits::{SMALL_SPAN_RECORDS_MAX, SPAN_RECORDS_MAX};

/// A range with what each side holds of it.
pub(super) struct Compared {
    pub(super) span: Span,
    pub(super) own: Sum,
    pub(super) theirs: Sum,
}

/// What follows from the ranges of a layer.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) tasks: Vec<Task>,
    /// Where we hold something and the peer nothing: it is told, and fetches it.
    pub(super) to_give: Vec<Ranges>,
}

impl Plan {
    /// `forged`: sums say nothing, everything is compared.
    pub(super) fn of(ranges: Vec<Compared>, forged: bool) -> Self {
        let mut plan = Self::default();
        // The span that is being put together, up to the last range that differs, and what has been passed since.
        let mut open: Option<(Span, Sum, Sum)> = None;
        let mut passed = (Sum::default(), Sum::default());
        for Compared { span, own, theirs } in ranges {
            let differs = forged || own != theirs;
            // Where one side has nothing, and it is worth a question of its own.
            let few = SMALL_SPAN_RECORDS_MAX as u64;
            if differs && (own.count == 0 && theirs.count > few || theirs.count == 0 && own.count > few) {
                plan.close(open.take());
                passed = Default::default();
                plan.close(Some((span, own, theirs)));
                continue;
            }
            let grown = open.map(|(first, mut o, mut t)| {
                o.add(&passed.0);
                o.add(&own);
                t.add(&passed.1);
                t.add(&theirs);
                (Span::buckets(span.layer, span.from, first.until), o, t)
            });
            match grown {
                // What lies between two ranges that differ costs reading alone.
                Some((all, o, t)) if o.count.max(t.count) <= SPAN_RECORDS_MAX as u64 => {
                    if differs {
                        (open, passed) = (Some((all, o, t)), Default::default());
                    } else {
                        passed.0.add(&own);
                        passed.1.add(&theirs);
                    }
                }
                _ => {
                    plan.close(open.take());
                    (open, passed) = (differs.then_some((span, own, theirs)), Default::default());
                }
            }
        }
        plan.close(open);
        plan
    }

    fn close(&mut self, open: Option<(Span, Sum, Sum)>) {
        match open {
            Some((span, own, theirs)) if own.count == 0 => self.fetch(span, theirs),
            Some((span, own, theirs)) if theirs.count == 0 => self.give(span, own),
            Some((span, _, theirs)) => {
                self.tasks.push(Task::Compare { span, theirs: Some(theirs), least: 0, tries: 0 });
            }
            None => {}
        }
    }

    fn fetch(&mut self, span: Span, theirs: Sum) {
        if let Some(Task::Fetch { span: last, theirs: Some(sum), .. }) = self.tasks.last_mut()
            && last.from == span.until
            && sum.count.saturating_add(theirs.count) <= SPAN_RECORDS_MAX as u64
        {
            last.from = span.from;
            sum.add(&theirs);
            return;
        }
        self.tasks.push(Task::Fetch { span, theirs: Some(theirs), before: None });
    }

    fn give(&mut self, span: Span, own: Sum) {
        let range = Range(span.from, own.count, own.to_bytes());
        match self.to_give.last_mut() {
            Some(last) if last.ranges.last().is_some_and(|r| r.0 == span.until) => last.ranges.push(range),
            _ => self.to_give.push(Ranges {
                layer: span.layer,
                root: None,
                until: span.until,
                ranges: vec![range],
            }),
        }
    }
}
