"""Who is posted to next: nobody takes what others need, and nobody is forgotten."""

import random

from hub.delivery import lines
from hub.delivery.lines import IN_LINE, PER_ENDPOINT, Line, Lines

A, B = Line("a", "kz", failing=False), Line("b", "kg", failing=False)
FAILS = Line("f", "tj", failing=True)


def begun(made):
    """All that may be posted now."""
    posts = []
    while (following := made.next()) is not None:
        posts.append(following)
    return posts


def filled(made, line, *items):
    for item in items:
        made.add(line, item)


def test_an_endpoint_has_so_many_posts_at_a_time_in_the_order_of_its_line():
    made = Lines[int](slots=128)
    filled(made, A, *range(6))
    assert begun(made) == [(A, number) for number in range(PER_ENDPOINT)]
    made.done(A)
    assert begun(made) == [(A, PER_ENDPOINT)]


def test_owners_take_turns_for_the_slots():
    made = Lines[int](slots=2)
    filled(made, A, 1, 2, 3)
    filled(made, B, 4, 5)
    order = []
    going = begun(made)
    while going:
        order += [item for _, item in going]
        made.done(going[0][0])
        going = going[1:] + begun(made)[:1]
        order = list(dict.fromkeys(order))
    assert order == [1, 4, 2, 5, 3]


def test_the_endpoints_of_an_owner_take_turns():
    made = Lines[int](slots=1)
    filled(made, A, 1, 2)
    filled(made, Line("b", "kz", failing=False), 3, 4)
    order: list[int] = []
    while len(order) < 4:
        [(line, item)] = begun(made)
        order.append(item)
        made.done(line)
    assert order == [1, 3, 2, 4]


def test_owners_whose_endpoints_are_slow_leave_slots_to_whoever_comes_next():
    slots = 60
    made = Lines[int](slots)
    taken = []
    for number in range(5):
        for endpoint in range(30):
            line = Line(f"{number}-{endpoint}", f"owner{number}", failing=False)
            filled(made, line, *range(made.room(line)))
        taken.append(len(begun(made)))
    # None of these posts ends, and still there is something for each who comes.
    assert taken[0] == slots / 2
    assert all(taken)
    assert sum(taken) < slots


def test_owners_leave_room_in_hand_to_whoever_comes_next():
    made = Lines[int](slots=8)
    for number in range(30):
        line = Line(f"a{number}", "kz", failing=False)
        made.hold(line, made.room(line))
    assert made.room(B) >= PER_ENDPOINT


def test_those_that_fail_have_slots_of_their_own_and_one_delivery_in_hand():
    made = Lines[int](slots=lines.FAILING_SHARE)
    assert made.room(FAILS) == 1
    filled(made, FAILS, 0)
    assert made.room(FAILS) == 0
    other = Line("g", "tm", failing=True)
    assert made.room(other) == 0
    filled(made, A, 1)
    assert sorted(item for _, item in begun(made)) == [0, 1]
    made.done(FAILS)
    assert (made.room(FAILS), made.room(other)) == (1, 1)


def test_what_fails_at_an_endpoint_waits_for_nobody_for_whom_it_does_not():
    made = Lines[int](slots=128)
    fails = Line("a", "kg", failing=True)
    filled(made, A, *range(PER_ENDPOINT + 1))
    assert made.room(fails) == 1
    filled(made, fails, 9, 10)
    assert sorted(item for _, item in begun(made)) == [*range(PER_ENDPOINT), 9]
    made.done(A)
    assert [item for _, item in begun(made)] == [PER_ENDPOINT]
    made.done(fails)
    assert [item for _, item in begun(made)] == [10]


def test_more_is_claimed_when_half_of_what_an_endpoint_may_have_is_gone():
    made = Lines[int](slots=128)
    most = PER_ENDPOINT + IN_LINE
    assert made.room(A) == most
    filled(made, A, *range(most))
    for _ in range(most // 2 - 1):
        begun(made)
        made.done(A)
        assert made.room(A) == 0
    begun(made)
    made.done(A)
    assert made.room(A) == most // 2


def test_what_is_being_claimed_is_no_room_for_others():
    made = Lines[int](slots=1)
    held = made.room(A)
    made.hold(A, held)
    left = made.room(B)
    assert left < held
    made.hold(FAILS, made.room(FAILS))
    assert made.room(FAILS) == 0
    made.free(A, held)
    made.free(FAILS, 1)
    assert (made.room(B), made.room(FAILS), made.in_hand) == (held, 1, 0)


def test_nothing_is_lost_and_no_bound_is_passed_however_posts_end():
    chance = random.Random(5)
    made = Lines[int](slots=6)
    places = [
        Line(endpoint, owner, failing)
        for endpoint in "abcde"
        for owner in ("kz", "kg")
        for failing in (False, True)
    ]
    waiting, posted, going = 0, 0, []
    for _ in range(3_000):
        line = chance.choice(places)
        for _ in range(min(made.room(line), 3)):
            made.add(line, waiting)
            waiting += 1
        new = begun(made)
        posted += len(new)
        going += [each for each, _ in new]
        assert sum(not each.failing for each in going) <= 6
        assert sum(each.failing for each in going) <= 1
        assert all(sum(g.endpoint == e for g in going) <= PER_ENDPOINT + 1 for e in "abcde")
        if going and chance.random() < 0.7:
            made.done(going.pop(chance.randrange(len(going))))
    while going:
        made.done(going.pop())
        new = begun(made)
        posted += len(new)
        going += [each for each, _ in new]
    assert posted == waiting > 1_000
    assert made.in_hand == 0
