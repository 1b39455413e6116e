//! `$metadata`: the entity types of a service.
//!
//! Source: OASIS "OData Common Schema Definition Language (CSDL) XML Representation 4.01".

use std::collections::HashMap;

use model::DataType;
use ports::{FieldSchema, StreamSchema};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

/// As much of a type as literals need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdmType {
    String,
    Integer,
    Decimal,
    Double,
    Guid,
    Boolean,
    DateTimeOffset,
    Date,
    Other,
}

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) ty: EdmType,
    data: Option<DataType>,
    nullable: bool,
}

/// One entity type with what it inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EntityType {
    key: Vec<String>,
    properties: Vec<Property>,
}

impl EntityType {
    pub(crate) fn field(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }

    pub(crate) fn schema(&self) -> StreamSchema {
        let field = |property: &Property| FieldSchema {
            name: property.name.clone(),
            ty: property.data,
            nullable: property.nullable,
        };
        StreamSchema {
            fields: self.properties.iter().map(field).collect(),
            key: self.key.clone(),
        }
    }
}

/// A type as it stands in the document, without what it inherits.
#[derive(Debug, Default)]
struct Declared {
    base: Option<String>,
    own: EntityType,
}

#[derive(Debug, Default)]
struct Document {
    /// Entity sets and the qualified names of their types.
    sets: HashMap<String, String>,
    types: HashMap<String, Declared>,
    /// Names that stand for a primitive type or an enumeration.
    aliases: HashMap<String, String>,
    namespace: String,
    short: Option<String>,
    current: Option<String>,
}

/// The type of an entity set; `None` if the document does not have the set.
pub(crate) fn entity(xml: &[u8], set: &str) -> Result<Option<EntityType>, String> {
    let text = std::str::from_utf8(xml).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    let mut elements = 0;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(element) => {
                elements += 1;
                document.open(&element)?;
            }
            Event::Empty(element) => {
                elements += 1;
                document.open(&element)?;
                document.close(element.local_name().as_ref());
            }
            Event::End(element) => document.close(element.local_name().as_ref()),
            Event::Eof => break,
            _ => {}
        }
    }
    if elements == 0 {
        return Err("it has no elements".into());
    }
    Ok(document.resolve(set))
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    match element
        .try_get_attribute(name)
        .map_err(|error| error.to_string())?
    {
        Some(attribute) => {
            let value =
                quick_xml::escape::unescape(&attribute.value).map_err(|error| error.to_string())?;
            Ok(Some(value.into_owned()))
        }
        None => Ok(None),
    }
}

impl Document {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let get = |name: &str| attribute(element, name);
        let qualified = |name: String, namespace: &str| format!("{namespace}.{name}");
        match element.local_name().as_ref() {
            "Schema" => {
                self.namespace = get("Namespace")?.unwrap_or_default();
                self.short = get("Alias")?;
            }
            "EntityType" => {
                let Some(name) = get("Name")? else {
                    return Ok(());
                };
                let name = qualified(name, &self.namespace);
                let base = get("BaseType")?.map(|base| self.expand(&base));
                self.types.insert(
                    name.clone(),
                    Declared {
                        base,
                        own: EntityType::default(),
                    },
                );
                self.current = Some(name);
            }
            "PropertyRef" => {
                if let (Some(current), Some(name)) = (self.current(), get("Name")?) {
                    current.own.key.push(name);
                }
            }
            "Property" => self.property(element)?,
            "TypeDefinition" => {
                if let (Some(name), Some(ty)) = (get("Name")?, get("UnderlyingType")?) {
                    self.aliases.insert(qualified(name, &self.namespace), ty);
                }
            }
            "EnumType" => {
                if let Some(name) = get("Name")? {
                    self.aliases
                        .insert(qualified(name, &self.namespace), "Edm.String".into());
                }
            }
            "EntitySet" => {
                if let (Some(name), Some(ty)) = (get("Name")?, get("EntityType")?) {
                    let ty = self.expand(&ty);
                    self.sets.insert(name, ty);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn property(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let get = |name: &str| attribute(element, name);
        let (Some(name), Some(ty)) = (get("Name")?, get("Type")?) else {
            return Ok(());
        };
        let nullable = get("Nullable")?.as_deref() != Some("false");
        let digits = digits(get("Precision")?, get("Scale")?);
        let ty = self.aliases.get(&self.expand(&ty)).cloned().unwrap_or(ty);
        let (ty, data) = edm_type(&ty, digits);
        if let Some(current) = self.current() {
            current.own.properties.push(Property {
                name,
                ty,
                data,
                nullable,
            });
        }
        Ok(())
    }

    fn close(&mut self, name: &str) {
        if name == "EntityType" {
            self.current = None;
        }
    }

    fn current(&mut self) -> Option<&mut Declared> {
        self.types.get_mut(self.current.as_ref()?)
    }

    /// A qualified name with the schema's alias written out.
    fn expand(&self, name: &str) -> String {
        match (&self.short, name.rsplit_once('.')) {
            (Some(short), Some((prefix, last))) if prefix == short => {
                format!("{}.{last}", self.namespace)
            }
            _ => name.to_owned(),
        }
    }

    fn resolve(&self, set: &str) -> Option<EntityType> {
        let mut next = self.sets.get(set);
        next?;
        let mut whole = EntityType::default();
        // A type that inherits from itself is no reason to go round for ever.
        for _ in 0..32 {
            let Some(declared) = next.and_then(|name| self.types.get(name)) else {
                break;
            };
            let own = &declared.own;
            whole
                .properties
                .splice(0..0, own.properties.iter().cloned());
            whole.key.splice(0..0, own.key.iter().cloned());
            next = declared.base.as_ref();
        }
        Some(whole)
    }
}

fn digits(precision: Option<String>, scale: Option<String>) -> Option<(u8, u8)> {
    let precision: u8 = precision?.parse().ok()?;
    let scale: u8 = scale.map_or(Some(0), |scale| scale.parse().ok())?;
    (scale <= precision && precision > 0).then_some((precision, scale))
}

fn edm_type(name: &str, digits: Option<(u8, u8)>) -> (EdmType, Option<DataType>) {
    match name {
        "Edm.String" | "Edm.Duration" => (EdmType::String, Some(DataType::Text { max: None })),
        "Edm.Byte" | "Edm.SByte" | "Edm.Int16" => (EdmType::Integer, Some(DataType::Int16)),
        "Edm.Int32" => (EdmType::Integer, Some(DataType::Int32)),
        "Edm.Int64" => (EdmType::Integer, Some(DataType::Int64)),
        "Edm.Decimal" => (EdmType::Decimal, Some(DataType::Decimal { digits })),
        "Edm.Double" | "Edm.Single" => (EdmType::Double, Some(DataType::Float64)),
        "Edm.Guid" => (EdmType::Guid, Some(DataType::Uuid)),
        "Edm.Boolean" => (EdmType::Boolean, Some(DataType::Boolean)),
        "Edm.DateTimeOffset" => (EdmType::DateTimeOffset, Some(DataType::Timestamp)),
        "Edm.Date" => (EdmType::Date, Some(DataType::Date)),
        "Edm.TimeOfDay" => (EdmType::Other, Some(DataType::Time)),
        "Edm.Binary" | "Edm.Stream" => (EdmType::Other, Some(DataType::Bytes)),
        // Complex types, collections, geography.
        _ => (EdmType::Other, Some(DataType::Json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
 <Schema Namespace="crm.model" Alias="self" xmlns="http://docs.oasis-open.org/odata/ns/edm">
  <EnumType Name="Status"><Member Name="Open"/></EnumType>
  <TypeDefinition Name="Money" UnderlyingType="Edm.Decimal"/>
  <EntityType Name="Party" Abstract="true"><Key><PropertyRef Name="Id"/></Key>
   <Property Name="Id" Type="Edm.Guid" Nullable="false"/></EntityType>
  <EntityType Name="Account" BaseType="self.Party">
   <Property Name="Name" Type="Edm.String" MaxLength="160"/>
   <Property Name="Limit" Type="Edm.Decimal" Precision="18" Scale="2"/>
   <Property Name="Any" Type="Edm.Decimal" Scale="variable"/>
   <Property Name="Total" Type="self.Money" Precision="10" Scale="4"/>
   <Property Name="Status" Type="crm.model.Status"/>
   <Property Name="Address" Type="self.Address"/>
   <NavigationProperty Name="Parent" Type="self.Account"/></EntityType>
  <ComplexType Name="Address"><Property Name="City" Type="Edm.String"/></ComplexType>
  <EntityContainer Name="C"><EntitySet Name="Accounts" EntityType="self.Account"/></EntityContainer>
 </Schema></edmx:DataServices></edmx:Edmx>"#;

    #[test]
    fn a_type_has_what_it_inherits_and_nothing_else() {
        let entity = entity(XML.as_bytes(), "Accounts").unwrap().unwrap();
        assert_eq!(entity.key, ["Id"]);
        let fields: Vec<_> = entity
            .schema()
            .fields
            .into_iter()
            .map(|f| (f.name, f.ty.unwrap().to_string()))
            .collect();
        let expected = [
            ("Id", "uuid"),
            ("Name", "text"),
            ("Limit", "decimal(18,2)"),
            ("Any", "decimal"),
            ("Total", "decimal(10,4)"),
            ("Status", "text"),
            ("Address", "json"),
        ];
        assert_eq!(
            fields,
            expected.map(|(name, ty)| (name.to_owned(), ty.to_owned()))
        );
        assert!(!entity.field("Id").unwrap().nullable);
        assert_eq!(entity.field("Status").unwrap().ty, EdmType::String);
    }

    #[test]
    fn what_is_no_metadata_is_told_from_what_lacks_the_set() {
        assert_eq!(entity(XML.as_bytes(), "Contacts").unwrap(), None);
        assert!(entity(b"", "Accounts").is_err());
        assert!(entity(b"{\"a\":1}", "Accounts").is_err());
        assert!(entity(b"<edmx:Edmx", "Accounts").is_err());
    }
}
