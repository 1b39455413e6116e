// Serves the shop on a free port, filled with the same rows every time.
//
// Prints `serving <address>` once it does.
import cds from "@sap/cds";
import express from "express";

const AUTHORS = 500;
const BOOKS = 1_500;

const NAMES = [
  "Ænima Ødegård", "O'Brien", 'Ann "Quote" Smith', "村上春樹", "Zoë 😀", "a&b=c+d", "50% off",
  "Back\\slash", "  blanks  ", "D'Arcy; DROP TABLE books", "line\nbreak\ttab", "مرحبا", "ﬁne",
];

/** A UUID that says which author it is; not in the order of the authors. */
const uuid = (n) => {
  const mixed = ((n * 2654435761) % 4294967296).toString(16).padStart(8, "0");
  return `${mixed}-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
};
const time = (seconds) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
const day = (n) => new Date(Date.UTC(1900, 0, 1 + (n % 40_000))).toISOString().slice(0, 10);
const unless = (absent, value) => (absent ? null : value);

const author = (n) => ({
  ID: uuid(n),
  name: `${NAMES[n % NAMES.length]} ${n}`,
  born: unless(n % 7 === 0, day(n * 73)),
  country: unless(n % 5 === 0, ["DE", "FR", "JP"][n % 3]),
  notes: unless(n % 3 === 0, `${NAMES[(n * 5) % NAMES.length]} `.repeat(n % 40)),
  createdAt: time(0),
  // Many rows have one time, as after an import.
  modifiedAt: time(Math.floor(n / 50)),
});

const book = (n) => ({
  ID: n % 2 ? n : -n,
  title: `Book ${n}: ${NAMES[(n * 7) % NAMES.length]}`,
  author_ID: unless(n % 11 === 0, uuid(n % AUTHORS)),
  price: unless(n % 13 === 0, (((n * 7919) % 100_000_000) / 100 - 1000).toFixed(2)),
  weight: unless(n % 17 === 0, (n * 0.1) / 3),
  stock: unless(n % 19 === 0, n % 4 ? n : 9007199254740000 + n),
  published: unless(n % 23 === 0, day(n * 31)),
  opens: unless(n % 29 === 0, `${String(n % 24).padStart(2, "0")}:${String(n % 60).padStart(2, "0")}:07`),
  sold: unless(n % 31 === 0, time(n * 1000.123)),
  available: unless(n % 37 === 0, n % 2 === 0),
  createdAt: time(0),
  modifiedAt: time(n / 8),
});

const many = (count, make) => Array.from({ length: count }, (_, n) => make(n));

cds.root = import.meta.dirname;
const model = await cds.load("shop.cds");
cds.model = cds.compile.for.nodejs(model);
cds.db = await cds.connect.to("db");
await cds.deploy(model, null).to(cds.db);
await cds.run(INSERT.into("shop.Authors").entries(many(AUTHORS, author)));
await cds.run(INSERT.into("shop.Books").entries(many(BOOKS, book)));

const app = express();
await cds.serve("all").from(model).in(app);
const server = app.listen(0, "127.0.0.1", () => {
  console.log(`serving http://127.0.0.1:${server.address().port}/odata/v4/shop`);
});
