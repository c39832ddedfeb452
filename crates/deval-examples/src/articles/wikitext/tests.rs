use proptest::prelude::*;

use super::*;

#[test]
fn markup_becomes_what_a_reader_sees() {
    let text = "{{Infobox city\n| name = {{lang|de|Ulm}}\n| map = [[File:Ulm.svg|thumb]]\n}}\n'''Ulm''' ({{IPA|x}}; born {{circa|854}}) is a ''city''\
        <ref name=\"a\">See [http://x.org it].</ref> on the [[Danube|river Danube]],<ref name=a/> near [[Neu-Ulm]].<!-- {{ -->\n\
        [[File:Minster.jpg|thumb|The [[minster]] at night]]\n\n\n== History ==\n{| class=wikitable\n|-\n! Year\n| 854\n|}\n\
        * The {{convert|161.53|m|ft}} spire &mdash; see [https://u.de the&nbsp;site] or [https://u.de].\n=== [[Trade]] ===\nA<br/>B 5 < 6 & <nowiki>[[x]]</nowiki>\n\
        __NOTOC__\n[[Category:Cities]]\n[[de:Ulm]] [[:Category:Towns]]\n";
    let expected = "Ulm (born 854) is a city on the river Danube, near Neu-Ulm.\n\n== History ==\n\
        The 161.53 m spire — see the site or .\n=== Trade ===\nA\nB 5 < 6 & [[x]]\n\nCategory:Towns";
    assert_eq!(plain_text(text), expected);
}

#[test]
fn what_never_closes_stays_text() {
    assert_eq!(plain_text("a {{ b [[c|d]] e"), "a b d e");
    assert_eq!(plain_text("a }} b ]] c |} d <ref> e --> f"), "a b c |} d e --> f");
    assert_eq!(plain_text("x {| y\n{{t [[u }} v"), "x {| y\nv");
    assert_eq!(plain_text("''''a'''' l'''''b''''' __x__ &bogus; &#0; <foo>"), "'a' lb __x__ &bogus; &#0; <foo>");
}

#[test]
fn long_bad_input_is_taken() {
    let pieces = ["{{", "[[", "{|", "<ref>", "<!--", "[http://a ", "''", "]]", "}}", "|", "\n", "&"];
    for piece in pieces {
        assert!(plain_text(&piece.repeat(100_000)).len() <= 100_000 * piece.len());
    }
    let nested = format!("{{|{}x{}", "[[a|".repeat(50_000), "]]}}".repeat(50_000));
    assert!(plain_text(&nested).ends_with("a|x"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_brackets_are_taken(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "{{", "}}", "[[", "]]", "[http://", "]", "{|", "|}", "|-", "|", "<ref>", "</ref>", "<ref/>", "<!--", "-->", "<nowiki>",
                "</nowiki", "<br>", "''", "'''''", "== ", "==\n", "\n", " ", "&amp;", "&", ";", "__", "TOC", "é", "convert", "file:", ":", "a",
            ]),
            0..60,
        ),
    ) {
        let text = pieces.concat();
        let plain = plain_text(&text);
        prop_assert!(plain.len() <= 2 * text.len() + 4);
    }
}
