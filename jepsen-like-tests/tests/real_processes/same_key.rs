//! The same checkout twice, one after the other and at the same moment: one order, one charge.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use souk_jepsen_like_tests::process::{ClusterPlan, TestCluster};

use crate::support::whole_machine;

const AT_ONCE: usize = 6;

struct Shop {
    http: Client,
    base: String,
}

impl Shop {
    async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base));
        let response = request
            .header("Idempotency-Key", key)
            .json(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn fill(&self, cart: &str) {
        let item = json!({"cart_id": cart, "sku": "pot", "quantity": 2});
        let (status, body) = self.post("/cart/items", cart, &item).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn check_out(&self, cart: &str, key: &str) -> (u16, Value) {
        let address =
            json!({"name": "J. Epsen", "lines": ["1 Quay"], "city": "Port", "country": "DE"});
        let body = json!({
            "cart_id": cart,
            "customer_id": "j",
            "payment": {"token": "tok_ok"},
            "shipping_address": address,
        });
        self.post("/orders/checkout", key, &body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_order_and_one_charge() {
    let _machine = whole_machine().await;
    let plan = ClusterPlan {
        has_shop: true,
        catalogue: json!({"id": "pot", "name": "Pot", "price_minor": 350}).to_string() + "\n",
        ..ClusterPlan::default()
    };
    let cluster = TestCluster::start(&plan, None).await.unwrap();
    let base = format!("http://{}/api/v1", cluster.shop_address().unwrap());
    let shop = Shop {
        http: Client::new(),
        base,
    };

    // At the same moment.
    shop.fill("c1").await;
    let answers = join_all((0..AT_ONCE).map(|_| shop.check_out("c1", "k1"))).await;
    let orders: BTreeSet<&str> = answers
        .iter()
        .map(|(status, order)| {
            assert_eq!(*status, 201, "{order}");
            order["order_id"].as_str().unwrap()
        })
        .collect();
    assert_eq!(orders.len(), 1, "{orders:?}");
    // And again, though the cart is empty by now.
    let (status, again) = shop.check_out("c1", "k1").await;
    assert_eq!(
        (status, again["order_id"].as_str()),
        (201, orders.first().copied()),
        "{again}"
    );
    // The key is spent: another body is refused under it.
    shop.fill("c2").await;
    let (status, refused) = shop.check_out("c2", "k1").await;
    assert_eq!(status, 422, "{refused}");
    // Another key is another order.
    let (status, other) = shop.check_out("c2", "k2").await;
    assert_eq!(status, 201, "{other}");
    assert!(!orders.contains(other["order_id"].as_str().unwrap()));

    // The provider was paid once for each.
    let book = std::fs::read_to_string(cluster.payments_file()).unwrap();
    let lines: Vec<Value> = book
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let payments: BTreeSet<&str> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(payments.len(), 2, "{book}");
    let captured = lines.iter().filter(|line| line["status"] == "captured");
    let amounts: Vec<i64> = captured
        .map(|line| line["amount"]["amount_minor"].as_i64().unwrap())
        .collect();
    assert_eq!(amounts, [700, 700], "{book}");

    // And units went out once for each.
    let stock = shop
        .http
        .get(format!("{}/products/pot/stock", shop.base))
        .send()
        .await
        .unwrap();
    let stock: Value = stock.json().await.unwrap();
    assert_eq!(
        (&stock["allocated"], &stock["reserved"]),
        (&json!(4), &json!(0)),
        "{stock}"
    );
    assert_eq!(stock["on_hand"], 100, "{stock}");
}
