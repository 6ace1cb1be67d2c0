"""Kubernetes' libraries and CEL's extensions, by example. Source: "Common Expression Language in Kubernetes", cel-go's extensions."""

from typing import Any

import pytest

from minik8s.api import cel


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # strings
        ("'tacocat'.charAt(3) + 'abc'.charAt(3)", "o"),
        ("'hello mellow'.indexOf('ello') + 'hello mellow'.indexOf('ello', 2) + 'hello'.indexOf('jello')", 7),
        ("'hello mellow'.lastIndexOf('ello') + 'hello mellow'.lastIndexOf('ello', 6) + 'a'.lastIndexOf('')", 9),
        ("'TacoCat Æ'.lowerAscii() + 'TacoCat æ'.upperAscii()", "tacocat ÆTACOCAT æ"),
        ("'hello hello'.replace('he', 'we', 1) + 'ab'.replace('', '_')", "wello hello_a_b_"),
        ("'a,b,c'.split(',', 2) + 'abc'.split('') + 'a'.split(',', 0)", ["a", "b,c", "a", "b", "c"]),
        ("'tacocat'.substring(4) + 'tacocat'.substring(0, 4)", "cattaco"),
        ("' \\t\\u00a0trim\\n'.trim()", "trim"),
        ("['a', 'b'].join('-') + ['a', 'b'].join()", "a-bab"),
        (r"""strings.quote('say "hi"\n')""", r'"say \"hi\"\n"'),
        (f"'{'a' * 400}!'.matches('^(a+)+$')", False),  # at once
        ("'abc 123 def 456'.find('[0-9]+') + 'x'.find('y')", "123"),
        ("'12 34 56'.findAll('[0-9]+', 2)", ["12", "34"]),
        ("'%s is %d: %.2f %x %X %o %b %%'.format(['a', 3, 1.005, 255, 'hi', 8, true])", "a is 3: 1.00 ff 6869 10 1 %"),
        ("'%s'.format([[1, 'a', {'k': 2.5}, null, duration('1s')]])", '[1, "a", {"k":2.500000}, null, duration("1s")]'),
        ("'%.1f %e'.format([1234567.25, 1052.5])", "1,234,567.2 1.052500×10⁰³"),
        # lists
        ("[1, 2, 2].isSorted() && ['a'].isSorted() && ![2, 1].isSorted()", True),
        ("[1, 2].sum() + [].sum()", 3),
        ("[1.5, 2.5].sum() + double([3, 1].min() + [3, 1].max())", 8.0),
        ("[1, 2, 2].indexOf(2) + [1, 2, 2].lastIndexOf(2) + [1].indexOf(9)", 2),
        ("[1, 2, 3].slice(1, 3) + [[4], [5]].flatten() + lists.range(2) + [8, 9].reverse()", [2, 3, 4, 5, 0, 1, 9, 8]),
        ("[3, 1, 2, 1].distinct().sort()", [1, 2, 3]),
        ("[{'n': 'b'}, {'n': 'a'}].sortBy(e, e.n).map(e, e.n)", ["a", "b"]),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])", True),
        # url
        ("isURL('https://a.example.com:80/p') && !isURL('../relative') && isURL('/absolute')", True),
        ("url('https://u@a.example.com:80/p%20q?x=1&x=2#f').getHost()", "a.example.com:80"),
        ("url('https://[::1]:80/').getHostname() + url('https://a:80/').getPort() + url('HTTPS://a').getScheme()", "::180https"),
        ("url('https://a/p q/é').getEscapedPath()", "/p%20q/%C3%A9"),
        ("url('https://a/?k=v%20w&k=x&l').getQuery()", {"k": ["v w", "x"], "l": [""]}),
        # addresses
        ("isIP('10.0.0.1') && isIP('::1') && !isIP('10.0.0.01') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')", True),
        ("ip('10.0.0.1').family() + ip('::1').family()", 10),
        ("ip('127.0.0.1').isLoopback() && ip('::').isUnspecified() && ip('169.254.1.1').isLinkLocalUnicast()", True),
        ("ip('224.0.0.1').isLinkLocalMulticast() && ip('8.8.8.8').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()", True),
        ("ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')", True),
        ("string(ip('2001:DB8:0:0::1')) + string(cidr('10.1.2.3/8').masked())", "2001:db8::110.0.0.0/8"),
        ("string(cidr('10.1.2.3/8').ip())", "10.1.2.3"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))", True),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))", True),
        ("isCIDR('10.0.0.1/8') && !isCIDR('10.0.0.1') && !isCIDR('10.0.0.1/33') && cidr('::/64').prefixLength() == 64", True),
        ("ip('::1') == ip('0::1') && type(ip('::1')) == net.IP", True),
        # quantities and versions
        ("quantity('1Gi') == quantity('1024Mi') && quantity('1500m').isGreaterThan(quantity('1')) && isQuantity('1.5k')", True),
        ("quantity('50k').add(20).sub(quantity('10')).asInteger()", 50010),
        ("quantity('1500m').asApproximateFloat()", 1.5),
        ("quantity('1.5').isInteger() || isQuantity('1K') || sign(quantity('-1')) != -1", False),
        ("semver('1.2.3-alpha.1').isLessThan(semver('1.2.3-alpha.beta')) && semver('1.10.0').compareTo(semver('1.9.0')) == 1", True),
        ("isSemver('v1.2') || !isSemver('v1.2', true) || semver('v01.2', true).major() != 1", False),
        # formats
        ("format.dns1123Label().validate('my-label').hasValue()", False),
        ("format.dns1123Label().validate('My').value()[0].startsWith('a lowercase RFC 1123 label must consist of')", True),
        ("format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", False),
        ("format.named('nothing').hasValue()", False),
    ],
)  # fmt: skip
def test_functions(text: str, answer: Any) -> None:
    assert cel.compile(text, cel.Env({})).evaluate({}) == answer


COST = "operation cancelled: actual cost limit exceeded"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("'a'.charAt(2)", "index out of range: 2"),
        ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
        ("[].max()", "max called on empty list"),
        ("url('relative')", 'URL parse error during conversion from string: parse "relative": invalid URI for request'),
        ("ip('1.2.3')", 'IP Address "1.2.3" parse error during conversion from string: ParseAddr("1.2.3"): unable to parse IP'),
        ("ip('::ffff:1.2.3.4')", 'IPv4-mapped IPv6 address "::ffff:1.2.3.4" is not allowed'),
        ("quantity('1Mo')", "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("quantity('1.5').asInteger()", "cannot convert value to integer"),
        ("semver('1.2')", "No Major.Minor.Patch elements found"),
        ("'%d'.format(dyn(['a']))", "error during formatting: decimal clause can only be used on integers, was given string"),
        ("'%s %s'.format(dyn(['a']))", "index 1 out of range"),
        ("lists.range(1000).map(x, lists.range(1000).map(y, '0123456789').join('')).join('----')", COST),
        (
            "lists.range(9).map(x, 'abcd'.replace('', 'abcdefgh'.replace('', 'abcdefgh'))).size() == 1 ? '' : 'a'.charAt(9)",
            "index out of range: 9",
        ),
        ("lists.range(2000000)", COST),
    ],
)
def test_failures(text: str, error: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        cel.compile(text, cel.Env({})).evaluate({})
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["int('{}') > 0", "uint('{}') > 0u", "semver('1.{}.0').minor() > 0"])
def test_endless_numbers_are_errors_of_the_evaluation(text: str) -> None:
    """Python's int reads no more than 4,300 digits, by another error."""
    with pytest.raises(cel.EvaluationError):
        cel.compile(text.format("9" * 5000), cel.Env({})).evaluate({})


def test_endless_numbers_of_prereleases_are_in_order() -> None:
    assert cel.compile(f"semver('1.0.0-1{'0' * 5000}').isGreaterThan(semver('1.0.0-9'))", cel.Env({})).evaluate({}) is True
