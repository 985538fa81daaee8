// The address of the page: it says which tasks are listed, and which one is shown in full.

const parameters = () => new URLSearchParams(location.search);

export function taskLink(id) {
  const query = parameters();
  if (id == null) query.delete("task");
  else query.set("task", id);
  return `?${query}`;
}

export const shownTask = () => parameters().get("task");
