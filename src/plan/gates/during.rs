//! `during:`: from which times a criterion takes its samples, and which criteria can.

use crate::gate::{During, Function, Subject};
use crate::series::LabelNames;
use crate::spec::{Diagnostics, Node, decode};

/// `word` is the function as it is written.
pub(super) fn during(
    node: &Node,
    function: Function,
    word: &str,
    subject: &Subject,
    diagnostics: &mut Diagnostics,
) -> Option<During> {
    let during = decode::<During>(node, diagnostics)?;
    // Rounds are counted when they are decided, which may be long after their load.
    let of_rounds = match subject {
        Subject::Journey { .. } => true,
        Subject::Series(selection) => LabelNames::of(selection.metric).check == Some("journey"),
    };
    if of_rounds || matches!(function, Function::Last | Function::Fresh) {
        let what = if of_rounds { "a journey's rounds" } else { word };
        diagnostics
            .error(node.span, format!("`during` selects samples, and not those of {what}"))
            .expected(
                "mean, min, max, p50 and other quantiles, ratio, increase or absent of a series \
                 of the node or of a check",
            );
        return None;
    }
    Some(during)
}
