using { managed } from '@sap/cds/common';

namespace shop;

entity Authors : managed {
  key ID      : UUID;
      name    : String(200) not null;
      born    : Date;
      country : String(2);
      notes   : LargeString;
      books   : Association to many Books on books.author = $self;
}

entity Books : managed {
  key ID        : Integer;
      title     : String(200) not null;
      author    : Association to Authors;
      price     : Decimal(11, 2);
      weight    : Double;
      stock     : Integer64;
      published : Date;
      opens     : Time;
      sold      : Timestamp;
      available : Boolean default true;
}

@path: '/odata/v4/shop'
service Shop {
  entity Authors as projection on shop.Authors;
  entity Books   as projection on shop.Books;
}
