import type { Member, MemberPatch, ProfileField, Visibility } from "@members-book/client";

import { drafts } from "@/lib/drafts";

/** What the member has typed: texts, empty where nothing is. */
export interface ProfileForm {
  name: string;
  phone: string;
  company: string;
  position: string;
  visibility: Visibility;
}

export function formOf({ name, contact_info: { phone, company, position }, visibility }: Member): ProfileForm {
  return { name, phone: phone ?? "", company: company ?? "", position: position ?? "", visibility: { ...visibility } };
}

const DRAFT = "profile";

/** What was typed before and not saved, if there is something. */
export function draftOf(member: Member): ProfileForm | undefined {
  try {
    const draft = JSON.parse(drafts.get(DRAFT)) as Partial<ProfileForm>;
    const old = formOf(member);
    const text = (field: "name" | "phone" | "company" | "position") => (typeof draft[field] === "string" ? draft[field] : old[field]);
    return { name: text("name"), phone: text("phone"), company: text("company"), position: text("position"), visibility: { ...old.visibility, ...draft.visibility } };
  } catch {
    return undefined;
  }
}

export function keepDraft(form: ProfileForm | undefined): void {
  drafts.set(DRAFT, form ? JSON.stringify(form) : "");
}

/** Only what has changed: what another device changes meanwhile stays. */
export function patchOf(form: ProfileForm, member: Member): MemberPatch {
  const old = formOf(member);
  const contact: NonNullable<MemberPatch["contact_info"]> = {};
  for (const field of ["phone", "company", "position"] as const) {
    const text = form[field].trim();
    if (text !== old[field]) contact[field] = text === "" ? null : text;
  }
  const visibility: NonNullable<MemberPatch["visibility"]> = {};
  for (const field of ["email", "phone", "company", "position"] as const) {
    if (form.visibility[field] !== old.visibility[field]) visibility[field] = form.visibility[field];
  }
  if (form.visibility.presence !== old.visibility.presence) visibility.presence = form.visibility.presence;
  return {
    ...(form.name.trim() === old.name ? {} : { name: form.name.trim() }),
    ...(Object.keys(contact).length === 0 ? {} : { contact_info: contact }),
    ...(Object.keys(visibility).length === 0 ? {} : { visibility }),
  };
}

/** A form with what was suggested for a field. */
export function applied(form: ProfileForm, field: ProfileField, value: string): ProfileForm {
  switch (field) {
    case "name": return { ...form, name: value };
    case "contact_info.phone": return { ...form, phone: value };
    case "contact_info.company": return { ...form, company: value };
    case "contact_info.position": return { ...form, position: value };
    default: return form;
  }
}
