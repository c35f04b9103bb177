use super::*;

fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

fn units(count: u32) -> Quantity {
    Quantity::new(count).unwrap()
}

fn tag(number: u128) -> AddTag {
    AddTag::from_bytes(number.to_be_bytes())
}

fn removal(number: u128) -> RemovalTag {
    tag(number).into()
}

/// A cart with one unit of `a` under tag 1.
fn cart_with_a() -> Cart {
    let mut cart = Cart::default();
    cart.add(tag(1), sku("a"), units(1), 0).unwrap();
    cart
}

fn merged(left: &Cart, right: &Cart) -> Cart {
    Cart::merge_all([left, right])
}

/// Checks the lines as (SKU, quantity, flagged).
fn check(cart: &Cart, expected: &[(&str, u64, bool)]) {
    let view = cart.view();
    let found: Vec<_> = view
        .lines()
        .iter()
        .map(|line| (line.sku.as_str(), line.quantity, line.concurrent))
        .collect();
    assert_eq!(found, expected, "{cart:?}");
}

#[test]
fn adds_of_one_article_are_summed_and_not_flagged() {
    let mut cart = cart_with_a();
    cart.add(tag(2), sku("a"), units(4), 9).unwrap();
    check(&cart, &[("a", 5, false)]);
    assert_eq!(cart.view().line(&sku("a")).unwrap().first_added_unix_ms, 0);
}

#[test]
fn adds_of_two_devices_are_summed_and_not_flagged() {
    let (mut left, mut right) = (cart_with_a(), cart_with_a());
    left.add(tag(2), sku("a"), units(2), 0).unwrap();
    right.add(tag(3), sku("a"), units(3), 0).unwrap();
    check(&merged(&left, &right), &[("a", 6, false)]);
}

#[test]
fn the_same_add_twice_counts_once() {
    let mut cart = cart_with_a();
    assert_eq!(
        cart.add(tag(1), sku("a"), units(1), 7),
        Ok(CartEffect::Unchanged)
    );
    check(&cart, &[("a", 1, false)]);
}

#[test]
fn an_add_sent_again_after_its_removal_stays_removed() {
    let mut cart = cart_with_a();
    cart.remove(removal(2), &sku("a"));
    assert_eq!(
        cart.add(tag(1), sku("a"), units(1), 0),
        Ok(CartEffect::Unchanged)
    );
    check(&cart, &[]);
}

#[test]
fn a_tag_with_another_content_is_refused() {
    let mut cart = cart_with_a();
    let refused = Err(CartError::TagReused { tag: tag(1) });
    assert_eq!(cart.add(tag(1), sku("a"), units(2), 0), refused);
    assert_eq!(cart.add(tag(1), sku("b"), units(1), 0), refused);
}

#[test]
fn adding_again_after_a_removal_is_not_flagged() {
    let mut cart = cart_with_a();
    cart.remove(removal(2), &sku("a"));
    cart.add(tag(3), sku("a"), units(1), 0).unwrap();
    check(&cart, &[("a", 1, false)]);
}

#[test]
fn a_removal_takes_only_what_it_saw_and_the_survivor_is_flagged() {
    let (mut left, mut right) = (cart_with_a(), cart_with_a());
    left.remove(removal(2), &sku("a"));
    right.add(tag(3), sku("a"), units(4), 0).unwrap();
    check(&merged(&left, &right), &[("a", 4, true)]);
}

#[test]
fn a_blind_add_during_a_removal_is_flagged() {
    let mut left = cart_with_a();
    left.remove(removal(2), &sku("a"));
    let mut blind = Cart::default();
    blind.add(tag(3), sku("a"), units(1), 0).unwrap();
    check(&merged(&left, &blind), &[("a", 1, true)]);
}

#[test]
fn a_change_against_a_removal_survives_flagged() {
    let (mut left, mut right) = (cart_with_a(), cart_with_a());
    left.remove(removal(2), &sku("a"));
    right.change(tag(3), &sku("a"), units(5), 0).unwrap();
    check(&merged(&left, &right), &[("a", 5, true)]);
}

#[test]
fn two_removals_and_an_add_after_one_of_them_are_flagged() {
    let (mut left, mut right) = (cart_with_a(), cart_with_a());
    left.remove(removal(2), &sku("a"));
    left.add(tag(3), sku("a"), units(1), 0).unwrap();
    right.remove(removal(4), &sku("a"));
    check(&merged(&left, &right), &[("a", 1, true)]);
}

#[test]
fn two_changes_at_once_both_show_until_one_is_chosen() {
    let (mut left, mut right) = (cart_with_a(), cart_with_a());
    left.change(tag(2), &sku("a"), units(3), 0).unwrap();
    right.change(tag(3), &sku("a"), units(5), 0).unwrap();
    let mut cart = merged(&left, &right);
    check(&cart, &[("a", 8, true)]);
    cart.change(tag(4), &sku("a"), units(5), 0).unwrap();
    check(&cart, &[("a", 5, false)]);
}

#[test]
fn a_late_change_does_not_bring_back_what_was_removed() {
    let mut cart = cart_with_a();
    cart.remove(removal(2), &sku("a"));
    let refused = cart.change(tag(3), &sku("a"), units(2), 0);
    assert_eq!(refused, Err(CartError::NotInCart { sku: sku("a") }));
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut cart = cart_with_a();
    let before = cart.clone();
    assert_eq!(cart.remove(removal(2), &sku("b")), CartEffect::Unchanged);
    assert_eq!(cart, before);
}

#[test]
fn checkout_takes_the_ordered_adds_and_leaves_the_rest() {
    let mut cart = cart_with_a();
    cart.add(tag(2), sku("b"), units(2), 0).unwrap();
    let ordered = cart.view();
    cart.add(tag(3), sku("a"), units(7), 0).unwrap();
    cart.add(tag(4), sku("c"), units(1), 0).unwrap();
    assert_eq!(
        cart.remove_ordered(removal(9), ordered.ordered()),
        CartEffect::Changed
    );
    check(&cart, &[("a", 7, true), ("c", 1, false)]);
    assert_eq!(
        cart.remove_ordered(removal(9), ordered.ordered()),
        CartEffect::Unchanged
    );
}

#[test]
fn checkout_removes_adds_that_this_copy_has_not_seen() {
    let full = cart_with_a();
    let mut stale = Cart::default();
    stale.remove_ordered(removal(9), full.view().ordered());
    check(&merged(&full, &stale), &[]);
}

#[test]
fn a_full_cart_refuses_adds_but_not_changes_and_removals() {
    let mut cart = Cart::default();
    for number in 0..ADDS_MAX {
        cart.adds.insert(
            tag(number as u128),
            CartAdd {
                sku: sku(&format!("s{number}")),
                quantity: units(1),
                added_unix_ms: 0,
                removals_seen: 0,
            },
        );
    }
    let refused = cart.add(tag(1 << 64), sku("x"), units(1), 0);
    assert_eq!(
        refused,
        Err(CartError::TooManyAdds {
            adds_count: ADDS_MAX
        })
    );
    assert_eq!(
        cart.change(tag(2 << 64), &sku("s1"), units(2), 0),
        Ok(CartEffect::Changed)
    );
    assert_eq!(
        cart.remove(removal(3 << 64), &sku("s1")),
        CartEffect::Changed
    );
    assert_eq!(
        cart.add(tag(1 << 64), sku("x"), units(1), 0),
        Ok(CartEffect::Changed)
    );
}

#[test]
fn a_cart_with_too_much_history_still_takes_removals() {
    let mut cart = cart_with_a();
    cart.removed
        .extend((0..20_000).map(|number| tag(number + 100)));
    let bytes = cart.bytes_count();
    assert!(bytes >= CART_BYTES_MAX);
    let refused = Err(CartError::CartTooLarge { bytes });
    assert_eq!(cart.add(tag(2), sku("b"), units(1), 0), refused);
    assert_eq!(cart.change(tag(2), &sku("a"), units(2), 0), refused);
    assert_eq!(cart.remove(removal(3), &sku("a")), CartEffect::Changed);
    assert!(
        cart.bytes_count() <= bytes,
        "a removal must not make the cart larger"
    );
}

#[test]
fn as_many_changes_fit_as_the_header_promises() {
    let mut cart = cart_with_a();
    let change_bytes = {
        cart.change(tag(u128::MAX - 1), &sku("a"), units(2), 0)
            .unwrap();
        let before = cart.bytes_count();
        cart.change(tag(u128::MAX - 2), &sku("a"), units(2), 0)
            .unwrap();
        cart.bytes_count() - before
    };
    assert!(
        change_bytes * 5_000 < CART_BYTES_MAX,
        "{change_bytes} bytes a change"
    );
}

#[test]
fn one_tag_with_two_contents_merges_alike_from_both_sides() {
    let (mut left, mut right) = (Cart::default(), Cart::default());
    left.add(tag(1), sku("a"), units(1), 0).unwrap();
    right.add(tag(1), sku("b"), units(1), 0).unwrap();
    assert_eq!(merged(&left, &right), merged(&right, &left));
}
